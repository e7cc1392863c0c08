//! The conformance guest in Rust: what testdata/abi/conformance.json says of
//! each user name.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parley::{authenticate, hash, hex, hmac, http, kv, metric, select_interface, session};
use parley::{Answer, Errno, Reply, Writer};

parley::plugin! {
    on_load => load,
    on_authenticate => user,
    on_select_interface => way,
}

/// Octets of the configuration that on_load was given.
static LOADED: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

fn load(config: &[u8]) -> Result<(), String> {
    if let Some(reason) = config.strip_prefix(b"refuse:") {
        return Err(String::from_utf8_lossy(reason).into_owned());
    }
    LOADED.store(config.len() as u64, Relaxed);
    Ok(())
}

fn say(reason: impl ToString) -> Result<Reply, Errno> {
    Ok(Reply::deny(0, &reason.to_string()))
}

fn say_if(good: bool) -> Result<Reply, Errno> {
    say(if good { "ok" } else { "bad" })
}

fn user(request: authenticate::Request) -> Reply {
    let next = authenticate::Reply::next;
    let done = authenticate::Reply::done;
    let deny = authenticate::Reply::deny;
    let reply = match request.username() {
        "next" => return next().into_reply(),
        "ha1" => return done().ha1(param(request, "ha1")).into_reply(),
        "password" => return done().password(&format!("{}:{}", request.realm(), param(request, "suffix"))).into_reply(),
        "authenticated" => {
            let reply = done().authenticated().max_expires_ms(60000);
            return reply.attribute("group", "staff").attribute("color", "blue").into_reply();
        }
        "limits" => {
            let reply = done().authenticated().username(param(request, "username")).max_sessions(1);
            let reply = reply.messages_per_minute(2).bytes_per_second(3);
            let reply = reply.user_messages_per_minute(4).user_bytes_per_second(5);
            return reply.max_message(6).into_reply();
        }
        "deny" => return deny(404, "no such user").into_reply(),
        "deny-plain" => return deny(0, "").into_reply(),
        "fail" => return Reply::fail_with(-5, "database is down"),
        "strange" => return Reply::new(77, Writer::new()),
        "session" => session_attribute(request),
        "hash" => ha1(request),
        "log" => {
            parley::error!("hello {}", 1);
            parley::warn!("hello {}", 2);
            parley::info!("hello {}", 3);
            parley::debug!("hello {}", 4);
            return next().into_reply();
        }
        "metric" => metric::counter("conform_total", 2, &[("color", "blue")]).map(|()| next().into_reply()),
        "big" => return big(),
        "trap" => panic!("boom"),
        other => ask(other, request),
    };
    reply.unwrap_or_else(|e| Reply::deny(0, &e.0.to_string()))
}

/// The cases whose answer is a reason.
fn ask(user: &str, request: authenticate::Request) -> Result<Reply, Errno> {
    let key = param(request, "key");
    let value = param(request, "value");
    match user {
        "field" => say(text_field(request, param(request, "field"))),
        "deadline" => say_if((1..=60_000_000).contains(&request.deadline_us().unwrap_or(0))),
        "list" => say(request.param_list("item").fold(String::new(), |all, item| all + item + ";")),
        "config" => say(String::from_utf8_lossy(&parley::config())),
        "loaded" => say(LOADED.load(Relaxed)),
        "count" => say(COUNT.fetch_add(1, Relaxed) + 1),
        "time" => say_if(parley::time()?.as_nanos() > 1_600_000_000_000_000_000),
        "random" => say(parley::random(16)?.len()),
        "kv-set" => {
            let ttl = request.param("ttl").and_then(|ttl| ttl.parse().ok());
            kv::set(key, value, ttl.map(Duration::from_millis)).and(say("ok"))
        }
        "kv-get" => say(String::from_utf8_lossy(&kv::get(key)?.value)),
        "kv-del" => kv::del(key).and(say("ok")),
        "kv-incr" => say(kv::incr(key, 5, None)?),
        "kv-cas" => {
            let version = match kv::get(key) {
                Ok(entry) => entry.version,
                Err(Errno::NOENT) => 0,
                Err(e) => return Err(e),
            };
            kv::cas(key, value, version, None)?;
            say_if(kv::cas(key, value, version, None) == Err(Errno::CONFLICT))
        }
        "http" => {
            let response = http::Request::get(param(request, "url")).header("X-Conform", "yes").send()?;
            say(format!("{} {}", response.status(), response.text().unwrap_or_default()))
        }
        "session-none" => session::get("nothing").and_then(say),
        "feature" => say(u8::from(parley::feature(param(request, "op").parse().unwrap_or(0))?)),
        "nosys" => parley::call(9999, &Writer::new()).and(say("ok")),
        "hmac" => say(hex(&hmac("sha-256", "Jefe", "what do ya want for nothing?")?[..8])),
        "body" => say(parley::source_size(parley::source::BODY)?),
        _ => Ok(authenticate::Reply::next().into_reply()),
    }
}

fn param<'a>(request: authenticate::Request<'a>, name: &str) -> &'a str {
    request.param(name).unwrap_or("")
}

fn text_field<'a>(request: authenticate::Request<'a>, name: &str) -> &'a str {
    match name {
        "listener" => request.listener(),
        "transport" => request.transport(),
        "local_addr" => request.local_addr(),
        "remote_addr" => request.remote_addr(),
        "tls_sni" => request.tls_sni(),
        "tls_client_cn" => request.tls_client_cn(),
        "realm" => request.realm(),
        "username" => request.username(),
        "uri" => request.uri(),
        "method" => request.method(),
        "algorithm" => request.algorithm(),
        "nonce" => request.nonce(),
        "response" => request.response(),
        "cnonce" => request.cnonce(),
        "nc" => request.nc(),
        "qop" => request.qop(),
        "from_path" => request.from_path(),
        "to_path" => request.to_path(),
        "hook" => request.hook(),
        "binding" => request.binding(),
        "cookie" => request.cookie(),
        "bearer" => request.bearer(),
        "origin" => request.origin(),
        "relay" => request.relay(),
        _ => "no such field",
    }
}

fn session_attribute(request: authenticate::Request) -> Result<Reply, Errno> {
    session::set("seen", request.realm())?;
    if session::get("seen")? != request.realm() {
        return say_if(false);
    }
    Ok(authenticate::Reply::done().authenticated().into_reply())
}

fn ha1(request: authenticate::Request) -> Result<Reply, Errno> {
    let digest = hash("md5", format!("{}:{}:secret", request.username(), request.realm()))?;
    Ok(authenticate::Reply::done().ha1(&hex(&digest)).into_reply())
}

fn big() -> Reply {
    let piece = Writer::new().bytes(0x8001, &[0; 1024]);
    for _ in 0..1000 {
        match parley::write(parley::sink::REPLY, piece.octets()) {
            Ok(_) => {}
            Err(Errno::TOOBIG) => return Reply::fail_with(-6, ""),
            Err(_) => break,
        }
    }
    authenticate::Reply::next().into_reply()
}

fn way(request: select_interface::Request) -> Result<select_interface::Reply, &'static str> {
    use select_interface::Reply;
    match request.username() {
        "last" => {
            let offer = request.offers().last().ok_or("no offers")?;
            Ok(Reply::done().interface(offer.name()).address(offer.address()))
        }
        "mark" => {
            let offer = request.offers().next().ok_or("no offers")?;
            let seen = format!("{}:{}:{}", request.host(), request.port().unwrap_or(0), u8::from(request.secure()));
            Ok(Reply::done().interface(offer.name()).attribute("seen", &seen))
        }
        "group" => Ok(Reply::done().interface(request.attribute("group").ok_or("no group")?)),
        "refuse" => Ok(Reply::deny(403, &format!("not from {}", request.remote_addr()))),
        _ => Ok(Reply::next()),
    }
}
