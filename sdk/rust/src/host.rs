//! The four imports, and what stands for them where there is no host.

use crate::message::{Message, Writer};
use crate::registry::{service, sink, source, Errno};

#[cfg(target_arch = "wasm32")]
use imports as sys;

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::sys;

#[cfg(target_arch = "wasm32")]
mod imports {
    #[link(wasm_import_module = "parley1")]
    extern "C" {
        pub fn read(source: u32, offset: u32, destination: *mut u8, capacity: u32) -> i32;
        pub fn write(sink: u32, pointer: *const u8, length: u32) -> i32;
        pub fn log(level: u32, pointer: *const u8, length: u32);
        pub fn call(service: u32, pointer: *const u8, length: u32) -> i32;
    }
}

fn size(n: i32) -> Result<usize, Errno> {
    if n < 0 {
        Err(Errno(n))
    } else {
        Ok(n as usize)
    }
}

/// Size of a source: `source::INPUT`, `BODY`, `RESULT` or `CONFIG`.
pub fn source_size(source: u32) -> Result<usize, Errno> {
    size(unsafe { sys::read(source, 0, std::ptr::null_mut(), 0) })
}

/// All of a source.
pub fn read(source: u32) -> Result<Vec<u8>, Errno> {
    let mut octets = vec![0; source_size(source)?];
    let now = size(unsafe { sys::read(source, 0, octets.as_mut_ptr(), octets.len() as u32) })?;
    octets.truncate(now);
    Ok(octets)
}

/// Appends octets to a sink, and returns its size. Hooks that return a reply
/// have no need of it.
pub fn write(sink: u32, octets: &[u8]) -> Result<usize, Errno> {
    size(unsafe { sys::write(sink, octets.as_ptr(), octets.len() as u32) })
}

/// Asks a service and returns its result, a message. There is a function for
/// each service: [`kv`](crate::kv), [`hash`](crate::hash) and so on.
pub fn call(service: u32, request: &Writer) -> Result<Vec<u8>, Errno> {
    let octets = request.octets();
    if size(unsafe { sys::call(service, octets.as_ptr(), octets.len() as u32) })? == 0 {
        return Ok(Vec::new());
    }
    read(source::RESULT)
}

/// Asks a service whose result must have something.
pub(crate) fn ask<T>(service: u32, request: &Writer, get: impl FnOnce(Message) -> Option<T>) -> Result<T, Errno> {
    get(Message::new(&call(service, request)?)).ok_or(Errno::IO)
}

/// Writes a line to the log, at one of [`level`](crate::level). The macros
/// [`error!`](crate::error!), [`warn!`](crate::warn!), [`info!`](crate::info!)
/// and [`debug!`](crate::debug!) format one.
pub fn log(level: u32, line: &str) {
    unsafe { sys::log(level, line.as_ptr(), line.len() as u32) }
}

/// The plugin's configuration, octet for octet. `on_load` gets it as well.
pub fn config() -> Vec<u8> {
    read(source::CONFIG).unwrap_or_default()
}

/// Whether the host knows a service and the operator has granted it.
pub fn feature(service: u32) -> Result<bool, Errno> {
    let request = Writer::new().uint(crate::field::OP, service.into());
    ask(service::FEATURE, &request, |m| m.uint(crate::field::GRANTED)).map(|granted| granted != 0)
}

/// What a hook's handler returns: a [`Reply`], one of the typed replies, or a
/// `Result` of one, whose error is a failure of the call.
pub trait Answer {
    fn into_reply(self) -> Reply;
}

impl Answer for Reply {
    fn into_reply(self) -> Reply {
        self
    }
}

impl<A: Answer, E: std::fmt::Display> Answer for Result<A, E> {
    fn into_reply(self) -> Reply {
        self.map_or_else(|e| Reply::fail(&e.to_string()), A::into_reply)
    }
}

/// A verdict and the fields of a reply, of any hook. The replies of the hooks'
/// modules, such as [`authenticate::Reply`](crate::authenticate::Reply), have a
/// method for each field; this one takes fields that those do not know.
#[must_use = "a hook's handler returns it"]
#[derive(Clone)]
pub struct Reply {
    verdict: i32,
    fields: Writer,
}

impl Reply {
    pub fn new(verdict: i32, fields: Writer) -> Reply {
        Reply { verdict, fields }
    }

    /// Refuses. Status 0 and an empty reason are left out.
    pub fn deny(status: u16, reason: &str) -> Reply {
        let mut fields = Writer::new();
        if status != 0 {
            fields = fields.uint(crate::field::STATUS, status.into());
        }
        if !reason.is_empty() {
            fields = fields.text(crate::field::REASON, reason);
        }
        Reply::new(crate::verdict::DENY, fields)
    }

    /// Says that the plugin could not decide, and why.
    pub fn fail(reason: &str) -> Reply {
        Reply::fail_with(-1, reason)
    }

    /// Likewise, with a number below zero that the operator sees.
    pub fn fail_with(code: i32, reason: &str) -> Reply {
        let mut fields = Writer::new();
        if !reason.is_empty() {
            fields = fields.text(crate::field::REASON, reason);
        }
        Reply::new(if code < 0 { code } else { -1 }, fields)
    }

    /// One of [`verdict`](crate::verdict), or below zero.
    pub fn verdict(&self) -> i32 {
        self.verdict
    }

    /// The fields.
    pub fn message(&self) -> Message<'_> {
        Message::new(self.fields.octets())
    }

    /// Adds fields by hand.
    pub fn with(mut self, add: impl FnOnce(Writer) -> Writer) -> Reply {
        self.fields = add(self.fields);
        self
    }

    /// Hands the reply to the host and returns what the export returns. A reply
    /// that the host does not take is a failure, never a shorter reply.
    fn send(self) -> i32 {
        let octets = self.fields.octets();
        if octets.is_empty() {
            return self.verdict;
        }
        match write(sink::REPLY, octets) {
            Ok(_) => self.verdict,
            Err(e) => {
                let reason = format!("a reply of {} octets: {}", octets.len(), e);
                // If there is no room for the reason either, the number says enough.
                let _ = write(sink::REPLY, Writer::new().text(crate::field::REASON, &reason).octets());
                e.0
            }
        }
    }
}

/// Runs before anything else of an exported function. Without the hook a panic
/// would be a trap without a word: wasm32-unknown-unknown has no standard error.
/// Tests have standard error.
fn start() {
    #[cfg(target_arch = "wasm32")]
    {
        use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
        static STARTED: AtomicBool = AtomicBool::new(false); // a Once would be 5 KB more
        if !STARTED.swap(true, Relaxed) {
            std::panic::set_hook(Box::new(|info| log(crate::level::ERROR, &info.to_string())));
        }
    }
}

/// What [`plugin!`](crate::plugin!) makes of a hook.
#[doc(hidden)]
pub fn serve<A: Answer>(handler: impl FnOnce(Message) -> A) -> i32 {
    start();
    match read(source::INPUT) {
        Ok(octets) => handler(Message::new(&octets)).into_reply().send(),
        Err(e) => Reply::fail_with(e.0, "cannot read the request").send(),
    }
}

/// What [`plugin!`](crate::plugin!) makes of `on_load`.
#[doc(hidden)]
pub fn serve_load<E: std::fmt::Display>(handler: impl FnOnce(&[u8]) -> Result<(), E>) -> i32 {
    start();
    match read(source::CONFIG) {
        Ok(config) => match handler(&config) {
            Ok(()) => 0,
            Err(e) => Reply::fail(&e.to_string()).send(),
        },
        Err(e) => Reply::fail_with(e.0, "cannot read the configuration").send(),
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.describe() {
            Some((name, doc)) => write!(f, "{} ({})", name, doc),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{field, testing, verdict};

    #[test]
    fn replies() {
        testing::input(&Writer::new().text(field::USERNAME, "alice"));
        let n = serve(|m| Reply::deny(404, m.text(field::USERNAME).unwrap()));
        assert_eq!(n, verdict::DENY);
        let reply = testing::take_reply();
        let reply = Message::new(&reply);
        assert_eq!((reply.uint(field::STATUS), reply.text(field::REASON)), (Some(404), Some("alice")));
    }

    #[test]
    fn an_error_is_a_failure() {
        assert_eq!(serve(|_| crate::kv::get("k").map(|_| Reply::deny(0, ""))), -1);
        let reply = testing::take_reply();
        assert_eq!(Message::new(&reply).text(field::REASON), Some("NOSYS (this host does not know the service)"));
    }

    #[test]
    fn a_reply_that_is_too_large_is_a_failure() {
        assert_eq!(serve(|_| Reply::deny(0, &"x".repeat(70_000))), Errno::TOOBIG.0);
        let reply = testing::take_reply();
        let reason = Message::new(&reply).text(field::REASON).unwrap().to_string();
        assert!(reason.starts_with("a reply of 70008 octets: TOOBIG"), "{}", reason);
    }

    #[test]
    fn on_load_gets_the_configuration() {
        testing::config("abc");
        assert_eq!(serve_load(|c| if c == b"abc" { Ok(()) } else { Err("not abc") }), 0);
        testing::config("");
        assert_eq!(serve_load(|c| if c == b"abc" { Ok(()) } else { Err("not abc") }), -1);
        let reply = testing::take_reply();
        assert_eq!(Message::new(&reply).text(field::REASON), Some("not abc"));
    }
}
