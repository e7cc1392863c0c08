//! The codec against testdata/abi/vectors.json: valid messages are read into
//! their fields and written back to the same octets; invalid ones are found out.

use std::collections::HashMap;

use parley::{Message, Writer};

/// As much of JSON as the vectors have.
#[derive(Debug)]
enum Json {
    Text(String),
    Number(u16),
    List(Vec<Json>),
    Object(HashMap<String, Json>),
}

impl Json {
    fn parse(rest: &mut &str) -> Json {
        *rest = rest.trim_start();
        match rest.chars().next().expect("more JSON") {
            '{' => Json::Object(Json::items(rest, '}', |rest| {
                let name = Json::string(rest);
                *rest = rest.trim_start().strip_prefix(':').expect("a colon");
                (name, Json::parse(rest))
            })),
            '[' => Json::List(Json::items(rest, ']', Json::parse)),
            '"' => Json::Text(Json::string(rest)),
            _ => {
                let end = rest.find(|c: char| !c.is_ascii_digit()).expect("an end of the number");
                let (number, after) = rest.split_at(end);
                *rest = after;
                Json::Number(number.parse().expect("a number"))
            }
        }
    }

    fn items<T, C: FromIterator<T>>(rest: &mut &str, end: char, item: fn(&mut &str) -> T) -> C {
        let mut items = Vec::new();
        loop {
            *rest = rest[1..].trim_start(); // a bracket or a comma
            if rest.starts_with(end) {
                break;
            }
            items.push(item(rest));
            *rest = rest.trim_start();
            if rest.starts_with(end) {
                break;
            }
            assert!(rest.starts_with(','), "a comma, not {:.20}", rest);
        }
        *rest = &rest[1..];
        items.into_iter().collect()
    }

    fn string(rest: &mut &str) -> String {
        *rest = rest.trim_start().strip_prefix('"').expect("a string");
        let end = rest.find(|c| c == '"' || c == '\\').expect("an end of the string");
        let (text, after) = rest.split_at(end);
        *rest = after.strip_prefix('"').expect("no escapes in the vectors");
        text.to_string()
    }

    fn text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            other => panic!("{:?} is no text", other),
        }
    }

    fn number(&self) -> u16 {
        match self {
            Json::Number(n) => *n,
            other => panic!("{:?} is no number", other),
        }
    }

    fn list(&self) -> &[Json] {
        match self {
            Json::List(list) => list,
            other => panic!("{:?} is no list", other),
        }
    }

    fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.get(name),
            other => panic!("{:?} is no object", other),
        }
    }
}

fn vectors() -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../testdata/abi/vectors.json");
    let text = std::fs::read_to_string(path).expect(path);
    Json::parse(&mut &text[..])
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

fn write(fields: &Json) -> Writer {
    fields.list().iter().fold(Writer::new(), |w, f| {
        let f = f.list();
        let (number, value) = (f[0].number(), &f[2]);
        match f[1].text() {
            "text" => w.text(number, value.text()),
            "bytes" => w.bytes(number, &unhex(value.text())),
            "uint" => w.uint(number, value.text().parse().expect("a number")),
            "message" => w.message(number, &write(value)),
            other => panic!("type {}", other),
        }
    })
}

fn check(name: &str, m: Message, fields: &Json) {
    assert!(m.is_well_formed(), "{}", name);
    let got: Vec<_> = m.fields().collect();
    assert_eq!(got.len(), fields.list().len(), "{}", name);
    for (got, want) in got.iter().zip(fields.list()) {
        let want = want.list();
        assert_eq!(got.number, want[0].number(), "{}", name);
        match want[1].text() {
            "text" => assert_eq!(got.text(), Some(want[2].text()), "{}", name),
            "bytes" => assert_eq!(got.bytes(), Some(&unhex(want[2].text())[..]), "{}", name),
            "uint" => assert_eq!(got.uint(), want[2].text().parse().ok(), "{}", name),
            _ => check(name, got.message().expect(name), &want[2]),
        }
    }
}

#[test]
fn valid() {
    let vectors = vectors();
    let valid = vectors.get("valid").unwrap().list();
    assert!(valid.len() > 10);
    for v in valid {
        let (name, octets) = (v.get("name").unwrap().text(), unhex(v.get("hex").unwrap().text()));
        check(name, Message::new(&octets), v.get("fields").unwrap());
        assert_eq!(write(v.get("fields").unwrap()).octets(), octets, "{}", name);
    }
}

#[test]
fn invalid() {
    let vectors = vectors();
    let invalid = vectors.get("invalid").unwrap().list();
    assert!(invalid.len() > 10);
    for v in invalid {
        let (name, octets) = (v.get("name").unwrap().text(), unhex(v.get("hex").unwrap().text()));
        let m = Message::new(&octets);
        let ask = match v.get("ask") {
            Some(ask) => ask.list(),
            None => {
                assert!(!m.is_well_formed(), "{}", name);
                continue;
            }
        };
        assert!(m.is_well_formed(), "{}", name);
        let field = m.fields().next().expect(name);
        let read = match ask[1].text() {
            "text" => field.text().is_some(),
            "uint" => field.uint().is_some(),
            "message" => field.message().is_some(),
            other => panic!("type {}", other),
        };
        assert!(!read, "{}", name);
    }
}
