//! Write plugins for Parley in Rust.
//!
//! ```
//! use parley::authenticate::{Reply, Request};
//!
//! parley::plugin! { on_authenticate => answer }
//!
//! fn answer(request: Request) -> Reply {
//!     match request.username() {
//!         "alice" => Reply::done().password("wonderland"),
//!         _ => Reply::next(), // somebody else may know
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! A plugin is a crate of type `cdylib`, built for `wasm32-unknown-unknown`.
//! [`plugin!`] exports its functions. Each hook has a module with its request,
//! whose fields are found when they are asked for, and its reply:
//! [`authenticate`], [`select_interface`]. The services of the host are
//! [`kv`], [`http`], [`metric`], [`session`], [`hash`](fn@hash), [`hmac`],
//! [`time`], [`random`] and [`feature`]; each may be refused or fail, with an
//! [`Errno`].
//!
//! Statics live from call to call. There may be several instances of a plugin,
//! each with its own memory, and each may go at any time: what must be shared or
//! kept belongs into the store ([`kv`]).
//!
//! On other targets the crate compiles too, with [`testing`] in place of the
//! host: `cargo test` tests a plugin's functions.

mod host;
mod message;
#[rustfmt::skip]
mod registry;
mod services;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use host::{call, config, feature, log, read, source_size, write, Answer, Reply};
#[doc(hidden)]
pub use host::{serve, serve_load};
pub use message::{Field, Fields, Message, Writer};
pub use registry::*;
pub use services::{hash, hex, hmac, http, kv, metric, random, session, time};

/// Exports the plugin's functions: the hooks that it answers, each with the
/// function that does, and if it wants `on_load`.
///
/// ```
/// use parley::{authenticate, select_interface};
///
/// parley::plugin! {
///     on_load => load,
///     on_authenticate => user,
///     on_select_interface => way,
/// }
///
/// // Its error refuses the load, and the plugin that runs goes on.
/// fn load(config: &[u8]) -> Result<(), String> {
///     if config.is_empty() { Err("no configuration".to_string()) } else { Ok(()) }
/// }
///
/// // A handler returns a reply,
/// fn user(request: authenticate::Request) -> authenticate::Reply {
///     authenticate::Reply::next()
/// }
///
/// // or a Result, whose error is a failure of the call.
/// fn way(request: select_interface::Request) -> Result<select_interface::Reply, parley::Errno> {
///     let name = parley::kv::get(request.username())?;
///     Ok(select_interface::Reply::done().interface(name.text().unwrap_or_default()))
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! plugin {
    ($($hook:ident => $handler:expr),+ $(,)?) => {
        #[no_mangle]
        pub extern "C" fn parley_abi() -> i32 {
            $crate::MAJOR << 16 | $crate::MINOR
        }
        $($crate::__export!($hook, $handler);)+
    };
}

/// Logs at level error: somebody must act.
#[macro_export]
macro_rules! error {
    ($($arg:tt)+) => { $crate::log($crate::level::ERROR, &::std::format!($($arg)+)) };
}

/// Logs at level warn: the operator should know.
#[macro_export]
macro_rules! warn {
    ($($arg:tt)+) => { $crate::log($crate::level::WARN, &::std::format!($($arg)+)) };
}

/// Logs at level info: rare and of interest.
#[macro_export]
macro_rules! info {
    ($($arg:tt)+) => { $crate::log($crate::level::INFO, &::std::format!($($arg)+)) };
}

/// Logs at level debug: decisions.
#[macro_export]
macro_rules! debug {
    ($($arg:tt)+) => { $crate::log($crate::level::DEBUG, &::std::format!($($arg)+)) };
}
