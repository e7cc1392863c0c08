// The conformance guest in AssemblyScript: what testdata/abi/conformance.json says
// of each user name.

import {
  AuthenticateReply, AuthenticateRequest, Errno, HttpRequest, Pair, Result, SelectInterfaceReply, SelectInterfaceRequest,
  Sink, Source, Writer, call, config, deny, encode, fail, feature, hash, hex, hmac, kv, log, metric, next, random,
  session, sourceSize, time, write,
} from "../parley";
export { parley_abi } from "../parley";

/** Octets of the configuration that on_load was given. */
let loaded = 0;
let count = 0;

export function on_load(size: i32): i32 {
  const text = config();
  if (text.startsWith("refuse:")) return fail(text.substring("refuse:".length));
  loaded = size;
  return 0;
}

function say(reason: string): i32 {
  return deny(0, reason);
}

function sayError(error: i32): i32 {
  return say(error.toString());
}

function sayIf(good: bool): i32 {
  return say(good ? "ok" : "bad");
}

/** "ok", or the error. */
function sayResult<T>(r: Result<T>): i32 {
  return r.ok ? say("ok") : sayError(r.error);
}


export function on_authenticate(size: i32): i32 {
  const request = new AuthenticateRequest(size);
  const user = request.username;
  const key = request.param("key"), value = encode(request.param("value"));
  if (user == "next") return next();
  if (user == "ha1") return new AuthenticateReply().ha1(request.param("ha1")).done();
  if (user == "password") return new AuthenticateReply().password(request.realm + ":" + request.param("suffix")).done();
  if (user == "authenticated") {
    return new AuthenticateReply().authenticated().max_expires_ms(60000)
      .attribute("group", "staff").attribute("color", "blue").done();
  }
  if (user == "limits") {
    return new AuthenticateReply().authenticated().username(request.param("username")).max_sessions(1).messages_per_minute(2)
      .bytes_per_second(3).user_messages_per_minute(4).user_bytes_per_second(5).max_message(6).done();
  }
  if (user == "deny") return deny(404, "no such user");
  if (user == "deny-plain") return deny();
  if (user == "fail") return fail("database is down", -5);
  if (user == "strange") return 77;
  if (user == "field") return say(field(request, request.param("field")));
  if (user == "deadline") return sayIf(request.deadline_us >= 1 && request.deadline_us <= 60000000);
  if (user == "list") {
    const items = request.paramList("item");
    let all = "";
    for (let i = 0; i < items.length; i++) all += items[i] + ";";
    return say(all);
  }
  if (user == "config") return say(config());
  if (user == "loaded") return say(loaded.toString());
  if (user == "log") {
    log.error("hello 1");
    log.warn("hello 2");
    log.info("hello 3");
    log.debug("hello 4");
    return next();
  }
  if (user == "count") return say((++count).toString());
  if (user == "time") {
    const now = time();
    return now.ok ? sayIf(now.value > 1600000000000000000) : sayError(now.error);
  }
  if (user == "random") {
    const octets = random(16);
    return octets.ok ? say(octets.value.length.toString()) : sayError(octets.error);
  }
  if (user == "kv-set") {
    const ttl = request.param("ttl");
    return sayResult<u64>(kv.set(key, value, ttl != "" ? U64.parseInt(ttl) : 0));
  }
  if (user == "kv-get") {
    const entry = kv.get(key);
    return entry.ok ? say(entry.value.text) : sayError(entry.error);
  }
  if (user == "kv-del") return sayResult<bool>(kv.del(key));
  if (user == "kv-incr") {
    const sum = kv.incr(key, 5);
    return sum.ok ? say(sum.value.toString()) : sayError(sum.error);
  }
  if (user == "kv-cas") {
    const entry = kv.get(key);
    if (!entry.ok && entry.error != Errno.NOENT) return sayError(entry.error);
    const version = entry.value.version; // 0 if there is none
    const first = kv.cas(key, value, version);
    if (!first.ok) return sayError(first.error);
    return sayIf(kv.cas(key, value, version).error == Errno.CONFLICT);
  }
  if (user == "metric") {
    const done = metric.counter("conform_total", 2, [new Pair("color", "blue")]);
    return done.ok ? next() : sayError(done.error);
  }
  if (user == "http") {
    const response = new HttpRequest("GET", request.param("url")).header("X-Conform", "yes").send();
    return response.ok ? say(response.status.toString() + " " + response.text) : sayError(response.error);
  }
  if (user == "session") {
    const set = session.set("seen", request.realm);
    if (!set.ok) return sayError(set.error);
    const seen = session.get("seen");
    if (!seen.ok) return sayError(seen.error);
    return seen.value == request.realm ? new AuthenticateReply().authenticated().done() : sayIf(false);
  }
  if (user == "session-none") return sayResult<string>(session.get("nothing"));
  if (user == "feature") {
    const has = feature(U64.parseInt(request.param("op")));
    return has.ok ? say(has.value ? "1" : "0") : sayError(has.error);
  }
  if (user == "nosys") return sayError(call(9999, new Writer()).error);
  if (user == "hash") {
    const digest = hash("md5", encode(user + ":" + request.realm + ":secret"));
    return digest.ok ? new AuthenticateReply().ha1(hex(digest.value)).done() : sayError(digest.error);
  }
  if (user == "hmac") {
    const digest = hmac("sha-256", encode("Jefe"), encode("what do ya want for nothing?"));
    return digest.ok ? say(hex(digest.value.subarray(0, 8))) : sayError(digest.error);
  }
  if (user == "big") {
    const piece = new Writer().bytes(0x8001, new Uint8Array(1024)).octets;
    for (let i = 0; i < 1000; i++) {
      const n = write(Sink.REPLY, piece);
      if (n == Errno.TOOBIG) return -6;
      if (n < 0) break;
    }
    return next();
  }
  if (user == "body") return say(sourceSize(Source.BODY).toString());
  if (user == "trap") throw new Error("boom");
  return next();
}

function field(request: AuthenticateRequest, name: string): string {
  if (name == "listener") return request.listener;
  if (name == "transport") return request.transport;
  if (name == "local_addr") return request.local_addr;
  if (name == "remote_addr") return request.remote_addr;
  if (name == "tls_sni") return request.tls_sni;
  if (name == "tls_client_cn") return request.tls_client_cn;
  if (name == "realm") return request.realm;
  if (name == "username") return request.username;
  if (name == "uri") return request.uri;
  if (name == "method") return request.method;
  if (name == "algorithm") return request.algorithm;
  if (name == "nonce") return request.nonce;
  if (name == "response") return request.response;
  if (name == "cnonce") return request.cnonce;
  if (name == "nc") return request.nc;
  if (name == "qop") return request.qop;
  if (name == "from_path") return request.from_path;
  if (name == "to_path") return request.to_path;
  if (name == "hook") return request.hook;
  if (name == "binding") return request.binding;
  if (name == "cookie") return request.cookie;
  if (name == "bearer") return request.bearer;
  if (name == "origin") return request.origin;
  if (name == "relay") return request.relay;
  return "no such field";
}

export function on_select_interface(size: i32): i32 {
  const request = new SelectInterfaceRequest(size);
  const user = request.username, offers = request.offers;
  if (user == "last") {
    const last = offers[offers.length - 1];
    return new SelectInterfaceReply().interface(last.name).address(last.address).done();
  }
  if (user == "mark") {
    const seen = request.host + ":" + request.port.toString() + ":" + (request.secure ? "1" : "0");
    return new SelectInterfaceReply().interface(offers[0].name).attribute("seen", seen).done();
  }
  if (user == "group") return new SelectInterfaceReply().interface(request.attribute("group")).done();
  if (user == "refuse") return deny(403, "not from " + request.remote_addr);
  return next();
}
