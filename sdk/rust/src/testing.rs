//! A stand-in for the host, for tests that run on the machine that builds the
//! plugin. Each thread, and so each test, has its own.
//!
//! ```
//! use parley::{testing, Errno, Writer};
//!
//! testing::on_call(|service, request| match service {
//!     parley::service::KV_GET if request.text(parley::field::KEY) == Some("k") => {
//!         Ok(Writer::new().bytes(parley::field::VALUE, b"v").uint(parley::field::VERSION, 1))
//!     }
//!     _ => Err(Errno::NOENT),
//! });
//! assert_eq!(parley::kv::get("k").unwrap().text(), Some("v"));
//! assert_eq!(parley::kv::get("other"), Err(Errno::NOENT));
//! ```

use std::cell::RefCell;

use crate::message::{Message, Writer};
use crate::registry::Errno;

type Services = Box<dyn FnMut(u32, Message<'_>) -> Result<Writer, Errno>>;

/// Octets that a reply may have, as without another word of the operator.
const MAX_REPLY: usize = 64 << 10;

#[derive(Default)]
struct Host {
    input: Vec<u8>,
    config: Vec<u8>,
    result: Vec<u8>,
    reply: Vec<u8>,
    lines: Vec<(u32, String)>,
    services: Option<Services>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

/// The request that an exported function, such as `on_authenticate`, will read.
pub fn input(message: &Writer) {
    HOST.with(|h| h.borrow_mut().input = message.octets().to_vec());
}

/// The configuration.
pub fn config(octets: impl AsRef<[u8]>) {
    HOST.with(|h| h.borrow_mut().config = octets.as_ref().to_vec());
}

/// Who answers services: it gets the number of the service and the request.
/// Without it there are none ([`Errno::NOSYS`]).
pub fn on_call(services: impl FnMut(u32, Message<'_>) -> Result<Writer, Errno> + 'static) {
    HOST.with(|h| h.borrow_mut().services = Some(Box::new(services)));
}

/// What has been written to the reply since the last time.
pub fn take_reply() -> Vec<u8> {
    HOST.with(|h| std::mem::take(&mut h.borrow_mut().reply))
}

/// What has been logged since the last time: levels and lines.
pub fn take_log() -> Vec<(u32, String)> {
    HOST.with(|h| std::mem::take(&mut h.borrow_mut().lines))
}

/// The imports, under the names and types that they have in a module.
pub(crate) mod sys {
    use super::*;
    use crate::registry::{sink, source};

    pub unsafe fn read(from: u32, offset: u32, destination: *mut u8, capacity: u32) -> i32 {
        HOST.with(|h| {
            let h = h.borrow();
            let octets: &[u8] = match from {
                source::INPUT => &h.input,
                source::BODY => &[],
                source::RESULT => &h.result,
                source::CONFIG => &h.config,
                _ => return Errno::INVAL.0,
            };
            let rest = octets.get(offset as usize..).unwrap_or_default();
            let n = rest.len().min(capacity as usize);
            if n > 0 {
                std::ptr::copy_nonoverlapping(rest.as_ptr(), destination, n);
            }
            octets.len() as i32
        })
    }

    pub unsafe fn write(to: u32, pointer: *const u8, length: u32) -> i32 {
        HOST.with(|h| {
            let reply = &mut h.borrow_mut().reply;
            if to != sink::REPLY {
                return Errno::INVAL.0;
            }
            if reply.len() + length as usize > MAX_REPLY {
                return Errno::TOOBIG.0;
            }
            reply.extend_from_slice(std::slice::from_raw_parts(pointer, length as usize));
            reply.len() as i32
        })
    }

    pub unsafe fn log(level: u32, pointer: *const u8, length: u32) {
        let line = String::from_utf8_lossy(std::slice::from_raw_parts(pointer, length as usize)).into_owned();
        HOST.with(|h| h.borrow_mut().lines.push((level, line)));
    }

    pub unsafe fn call(service: u32, pointer: *const u8, length: u32) -> i32 {
        let request = std::slice::from_raw_parts(pointer, length as usize);
        // Taken out, so that a service may log.
        let mut services = HOST.with(|h| h.borrow_mut().services.take());
        let answer = match &mut services {
            Some(f) => f(service, Message::new(request)),
            None => Err(Errno::NOSYS),
        };
        HOST.with(|h| {
            let mut h = h.borrow_mut();
            h.services = services;
            match answer {
                Ok(result) => {
                    h.result = result.octets().to_vec();
                    h.result.len() as i32
                }
                Err(e) => e.0,
            }
        })
    }
}
