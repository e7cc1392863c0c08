//! The encoding of messages: see ABI.md, "Messages".

use crate::registry::{field, kind};

/// Octets before each value: field, type and length.
const HEADER: usize = 8;

/// A message: fields, which are found when they are asked for. It borrows the
/// octets that it was made from, and so does everything that it returns.
///
/// Whatever the octets are, reading never fails. A field that is absent, has
/// another type, or has a value that its type does not allow (a text that is not
/// UTF-8, say) is `None`. In a message that is malformed nothing is found.
#[derive(Clone, Copy, Default)]
pub struct Message<'a> {
    octets: &'a [u8],
}

impl<'a> Message<'a> {
    pub fn new(octets: &'a [u8]) -> Message<'a> {
        Message { octets }
    }

    /// The message as it is encoded.
    pub fn octets(self) -> &'a [u8] {
        self.octets
    }

    /// All fields, in their order.
    pub fn fields(self) -> Fields<'a> {
        Fields { rest: self.octets }
    }

    /// Whether the message can be read to its end. Values are not looked at.
    pub fn is_well_formed(self) -> bool {
        let mut fields = self.fields();
        while fields.next().is_some() {}
        fields.rest.is_empty()
    }

    /// A field. Of one that is there more than once, the last.
    pub fn get(self, number: u16) -> Option<Field<'a>> {
        let mut found = None;
        let mut fields = self.fields();
        for f in fields.by_ref() {
            if f.number == number {
                found = Some(f);
            }
        }
        found.filter(|_| fields.rest.is_empty())
    }

    /// Each field with this number, in their order, up to where the message is
    /// malformed.
    pub fn all(self, number: u16) -> impl Iterator<Item = Field<'a>> {
        self.fields().filter(move |f| f.number == number)
    }

    pub fn text(self, number: u16) -> Option<&'a str> {
        self.get(number)?.text()
    }

    pub fn uint(self, number: u16) -> Option<u64> {
        self.get(number)?.uint()
    }

    pub fn bytes(self, number: u16) -> Option<&'a [u8]> {
        self.get(number)?.bytes()
    }

    /// Each message in fields with this number.
    pub fn messages(self, number: u16) -> impl Iterator<Item = Message<'a>> {
        self.all(number).filter_map(Field::message)
    }

    /// Each name and text in fields with this number, such as `field::PARAM`.
    pub fn pairs(self, number: u16) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.all(number).filter_map(Field::pair)
    }

    /// The text that belongs to a name. Of a list, the last: see
    /// [`pair_list`](Message::pair_list).
    pub fn pair(self, number: u16, name: &str) -> Option<&'a str> {
        self.pair_list(number, name).last().filter(|_| self.is_well_formed())
    }

    /// All texts that belong to a name.
    pub fn pair_list<'n>(self, number: u16, name: &'n str) -> impl Iterator<Item = &'a str> + 'n
    where
        'a: 'n,
    {
        self.pairs(number).filter(move |p| p.0 == name).map(|p| p.1)
    }
}

/// The fields of a message. It ends where the message is malformed.
#[derive(Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let header = self.rest.get(..HEADER)?;
        let size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let value = self.rest[HEADER..].get(..size)?;
        self.rest = &self.rest[HEADER + size..];
        Some(Field {
            number: u16::from_le_bytes([header[0], header[1]]),
            kind: u16::from_le_bytes([header[2], header[3]]),
            value,
        })
    }
}

/// One field of a message.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// One of [`field`](crate::field), or one that this SDK does not know.
    pub number: u16,
    /// One of [`kind`](crate::kind), or one that this SDK does not know.
    pub kind: u16,
    /// The octets, whatever the type.
    pub value: &'a [u8],
}

impl<'a> Field<'a> {
    pub fn text(self) -> Option<&'a str> {
        match self.kind {
            kind::TEXT => std::str::from_utf8(self.value).ok(),
            _ => None,
        }
    }

    pub fn uint(self) -> Option<u64> {
        match self.kind {
            kind::UINT => self.value.try_into().ok().map(u64::from_le_bytes),
            _ => None,
        }
    }

    pub fn bytes(self) -> Option<&'a [u8]> {
        match self.kind {
            kind::BYTES => Some(self.value),
            _ => None,
        }
    }

    pub fn message(self) -> Option<Message<'a>> {
        match self.kind {
            kind::MESSAGE => Some(Message::new(self.value)).filter(|m| m.is_well_formed()),
            _ => None,
        }
    }

    /// Name and text; the text may be absent, as it is when it is empty.
    pub fn pair(self) -> Option<(&'a str, &'a str)> {
        let m = self.message()?;
        Some((m.text(field::NAME)?, m.text(field::TEXT).unwrap_or("")))
    }
}

/// Builds a message, field by field:
///
/// ```
/// use parley::{field, Message, Writer};
/// let m = Writer::new().text(field::USERNAME, "alice").pair(field::PARAM, "group", "eu");
/// assert_eq!(Message::new(m.octets()).text(field::USERNAME), Some("alice"));
/// ```
#[derive(Clone, Default)]
pub struct Writer {
    octets: Vec<u8>,
}

impl Writer {
    pub const fn new() -> Writer {
        Writer { octets: Vec::new() }
    }

    /// What has been written.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    pub fn text(self, number: u16, value: &str) -> Writer {
        self.raw(number, kind::TEXT, value.as_bytes())
    }

    pub fn uint(self, number: u16, value: u64) -> Writer {
        self.raw(number, kind::UINT, &value.to_le_bytes())
    }

    pub fn bytes(self, number: u16, value: &[u8]) -> Writer {
        self.raw(number, kind::BYTES, value)
    }

    pub fn message(self, number: u16, value: &Writer) -> Writer {
        self.raw(number, kind::MESSAGE, &value.octets)
    }

    /// A message of a name and a text: a parameter, attribute, header or label.
    pub fn pair(self, number: u16, name: &str, text: &str) -> Writer {
        self.message(number, &Writer::new().text(field::NAME, name).text(field::TEXT, text))
    }

    /// A field of any type. The octets are not checked.
    pub fn raw(mut self, number: u16, kind: u16, value: &[u8]) -> Writer {
        self.octets.reserve(HEADER + value.len());
        self.octets.extend_from_slice(&number.to_le_bytes());
        self.octets.extend_from_slice(&kind.to_le_bytes());
        self.octets.extend_from_slice(&(value.len() as u32).to_le_bytes());
        self.octets.extend_from_slice(value);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_field_counts_and_others_are_skipped() {
        let w = Writer::new().text(8, "bob").raw(31999, 77, b"?").text(8, "alice").text(7, "x");
        assert_eq!(Message::new(w.octets()).text(8), Some("alice"));
        assert_eq!(Message::new(w.octets()).text(9), None);
    }

    #[test]
    fn wrong_types_are_absent() {
        let w = Writer::new().bytes(8, b"a").raw(9, kind::TEXT, b"\xc3").raw(120, kind::UINT, b"1234");
        let m = Message::new(w.octets());
        assert_eq!((m.text(8), m.text(9), m.uint(120)), (None, None, None));
        assert_eq!(m.bytes(8), Some(&b"a"[..]));
    }

    #[test]
    fn pairs() {
        let w = Writer::new().pair(19, "item", "a").pair(19, "other", "x").pair(19, "item", "").message(19, &Writer::new());
        let m = Message::new(w.octets());
        assert_eq!(m.pair(19, "item"), Some(""));
        assert_eq!(m.pair_list(19, "item").collect::<Vec<_>>(), ["a", ""]);
        assert_eq!(m.pairs(19).count(), 3);
        assert_eq!(m.pair(19, "none"), None);
    }

    #[test]
    fn malformed_messages_have_nothing() {
        let mut octets = Writer::new().text(8, "alice").pair(19, "group", "eu").octets().to_vec();
        octets.push(0);
        let m = Message::new(&octets);
        assert!(!m.is_well_formed());
        assert_eq!((m.text(8), m.pair(19, "group")), (None, None));
    }

    #[test]
    fn every_cut_and_every_flip_is_readable() {
        let w = Writer::new().text(8, "alice").uint(18, 5).pair(19, "group", "eu").bytes(212, b"\0\xff");
        for end in 0..w.octets().len() {
            read_all(&w.octets()[..end]);
        }
        for at in 0..w.octets().len() {
            for bit in 0..8 {
                let mut octets = w.octets().to_vec();
                octets[at] ^= 1 << bit;
                read_all(&octets);
            }
        }
    }

    fn read_all(octets: &[u8]) {
        let m = Message::new(octets);
        m.is_well_formed();
        for f in m.fields() {
            (f.text(), f.uint(), f.bytes(), f.pair());
        }
    }
}
