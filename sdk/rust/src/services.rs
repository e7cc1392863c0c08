//! What the host does for plugins. The operator grants each plugin what it may
//! use; what is not granted is [`Errno::PERM`].

use std::time::Duration;

use crate::host::{ask, call};
use crate::message::Writer;
use crate::registry::{field, service, Errno};

/// The time since 1970-01-01 UTC. Grant: clock.
pub fn time() -> Result<Duration, Errno> {
    ask(service::TIME, &Writer::new(), |m| m.uint(field::TIME_NS)).map(Duration::from_nanos)
}

/// `count` random octets, up to 4096, fit for keys. Grant: random.
pub fn random(count: usize) -> Result<Vec<u8>, Errno> {
    let request = Writer::new().uint(field::COUNT, count as u64);
    ask(service::RANDOM, &request, |m| m.bytes(field::DATA).map(<[u8]>::to_vec))
}

/// Hashes data. The algorithm is `md5`, `sha-1` or `sha-256`.
pub fn hash(algorithm: &str, data: impl AsRef<[u8]>) -> Result<Vec<u8>, Errno> {
    digest(Writer::new().text(field::ALGORITHM, algorithm).bytes(field::DATA, data.as_ref()))
}

/// The HMAC of data under a secret.
pub fn hmac(algorithm: &str, secret: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Result<Vec<u8>, Errno> {
    let request = Writer::new().text(field::ALGORITHM, algorithm).bytes(field::DATA, data.as_ref());
    digest(request.bytes(field::SECRET, secret.as_ref()))
}

fn digest(request: Writer) -> Result<Vec<u8>, Errno> {
    ask(service::HASH, &request, |m| m.bytes(field::DIGEST).map(<[u8]>::to_vec))
}

/// Octets in lower-case hex, as `ha1` is written.
pub fn hex(octets: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    octets.iter().flat_map(|&o| [digits[usize::from(o >> 4)], digits[usize::from(o & 15)]]).map(char::from).collect()
}

/// The plugin's store: shared by all its instances, and still there after a
/// reload. When it is full, the entries longest unused go. Grant: kv.
pub mod kv {
    use super::*;

    /// An entry of the store.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Entry {
        pub value: Vec<u8>,
        /// Another with each write: see [`cas`].
        pub version: u64,
    }

    impl Entry {
        /// The value, if it is UTF-8.
        pub fn text(&self) -> Option<&str> {
            std::str::from_utf8(&self.value).ok()
        }
    }

    fn request(key: &str, ttl: Option<Duration>) -> Writer {
        let request = Writer::new().text(field::KEY, key);
        match ttl {
            // 0 would be for ever.
            Some(ttl) => request.uint(field::TTL_MS, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)),
            None => request,
        }
    }

    /// Reads an entry. [`Errno::NOENT`]: there is none.
    pub fn get(key: &str) -> Result<Entry, Errno> {
        ask(service::KV_GET, &request(key, None), |m| {
            let value = m.bytes(field::VALUE).unwrap_or_default().to_vec();
            Some(Entry { value, version: m.uint(field::VERSION)? })
        })
    }

    /// Writes an entry and returns its version. Without a `ttl` it stays until it
    /// is pushed out. [`Errno::TOOBIG`]: key or value is too long.
    pub fn set(key: &str, value: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<u64, Errno> {
        ask(service::KV_SET, &request(key, ttl).bytes(field::VALUE, value.as_ref()), |m| m.uint(field::VERSION))
    }

    /// Writes an entry if it has this version still; 0: if there is none.
    /// [`Errno::CONFLICT`]: it has another.
    pub fn cas(key: &str, value: impl AsRef<[u8]>, version: u64, ttl: Option<Duration>) -> Result<u64, Errno> {
        let request = request(key, ttl).bytes(field::VALUE, value.as_ref()).uint(field::VERSION, version);
        ask(service::KV_CAS, &request, |m| m.uint(field::VERSION))
    }

    /// Removes an entry. [`Errno::NOENT`]: there was none.
    pub fn del(key: &str) -> Result<(), Errno> {
        call(service::KV_DEL, &request(key, None)).map(drop)
    }

    /// Adds to the number in an entry, which begins as 0, and returns what it is
    /// now. `ttl` counts for an entry that is made now; one that is there keeps
    /// its end. [`Errno::INVAL`]: the entry is no number.
    pub fn incr(key: &str, count: i64, ttl: Option<Duration>) -> Result<i64, Errno> {
        // The wire has two's complement.
        ask(service::KV_INCR, &request(key, ttl).uint(field::COUNT, count as u64), |m| m.uint(field::COUNT)).map(|n| n as i64)
    }
}

/// Numbers for the operator's monitoring. Names and label names are letters,
/// digits and underscores. [`Errno::AGAIN`]: the plugin has 100 series already.
pub mod metric {
    use super::*;

    /// Adds to a counter.
    pub fn counter(name: &str, count: u64, labels: &[(&str, &str)]) -> Result<(), Errno> {
        metric("counter", name, count, labels)
    }

    /// Sets a gauge.
    pub fn gauge(name: &str, value: u64, labels: &[(&str, &str)]) -> Result<(), Errno> {
        metric("gauge", name, value, labels)
    }

    /// Adds an observation to a histogram.
    pub fn histogram(name: &str, value: u64, labels: &[(&str, &str)]) -> Result<(), Errno> {
        metric("histogram", name, value, labels)
    }

    fn metric(kind: &str, name: &str, count: u64, labels: &[(&str, &str)]) -> Result<(), Errno> {
        let mut request = Writer::new().text(field::NAME, name).text(field::KIND, kind).uint(field::COUNT, count);
        for (name, text) in labels {
            request = request.pair(field::LABEL, name, text);
        }
        call(service::METRIC, &request).map(drop)
    }
}

/// Requests to web services. Grant: http, with the URLs that it may begin with.
///
/// ```no_run
/// # fn f() -> Result<(), parley::Errno> {
/// let response = parley::http::Request::get("https://hr.example/user/alice").header("Accept", "text/plain").send()?;
/// if response.status() == 200 {
///     let body = response.body();
/// }
/// # Ok(())
/// # }
/// ```
pub mod http {
    use super::*;
    use crate::message::Message;

    /// A request that is not sent yet.
    #[must_use = "send sends it"]
    #[derive(Clone)]
    pub struct Request(Writer);

    impl Request {
        pub fn new(method: &str, url: &str) -> Request {
            Request(Writer::new().text(field::METHOD, method).text(field::URI, url))
        }

        pub fn get(url: &str) -> Request {
            Request::new("GET", url)
        }

        pub fn post(url: &str, body: impl AsRef<[u8]>) -> Request {
            Request::new("POST", url).body(body)
        }

        pub fn header(self, name: &str, text: &str) -> Request {
            Request(self.0.pair(field::HEADER, name, text))
        }

        pub fn body(self, body: impl AsRef<[u8]>) -> Request {
            Request(self.0.bytes(field::BODY, body.as_ref()))
        }

        /// Sends the request and waits for the answer, at most until the call's
        /// deadline ([`Errno::TIMEDOUT`]). Redirects are not followed. A status
        /// such as 404 is no error. In `on_load` it is [`Errno::INVAL`].
        pub fn send(self) -> Result<Response, Errno> {
            call(service::HTTP, &self.0).map(Response)
        }
    }

    /// What the web service answered.
    #[derive(Clone)]
    pub struct Response(Vec<u8>);

    impl Response {
        pub fn status(&self) -> u64 {
            self.message().uint(field::STATUS).unwrap_or(0)
        }

        /// All header fields.
        pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
            self.message().pairs(field::HEADER)
        }

        /// The first header field of this name, in whatever case.
        pub fn header(&self, name: &str) -> Option<&str> {
            self.headers().find(|h| h.0.eq_ignore_ascii_case(name)).map(|h| h.1)
        }

        pub fn body(&self) -> &[u8] {
            self.message().bytes(field::BODY).unwrap_or_default()
        }

        /// The body, if it is UTF-8.
        pub fn text(&self) -> Option<&str> {
            std::str::from_utf8(self.body()).ok()
        }

        pub fn message(&self) -> Message<'_> {
            Message::new(&self.0)
        }
    }
}

/// Attributes of the session that the call is about.
pub mod session {
    use super::*;

    /// Reads an attribute, with what this call has set. [`Errno::NOENT`]: there
    /// is none.
    pub fn get(name: &str) -> Result<String, Errno> {
        let request = Writer::new().text(field::NAME, name);
        ask(service::SESSION_GET, &request, |m| Some(m.text(field::TEXT).unwrap_or("").to_string()))
    }

    /// Sets an attribute, if this call's verdict is done.
    pub fn set(name: &str, text: &str) -> Result<(), Errno> {
        call(service::SESSION_SET, &Writer::new().text(field::NAME, name).text(field::TEXT, text)).map(drop)
    }
}
