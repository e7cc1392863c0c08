// What the host does for plugins. The operator grants each plugin what it may
// use; what is not granted is Errno.PERM.

import { Result, call } from "./host";
import { Message, NONE, Pair, Writer, decode } from "./message";
import { Errno, Field, Service } from "./registry";

function status(r: Result<Message>): Result<bool> {
  return new Result<bool>(r.ok, r.error);
}

/** A field of a result, which must have it. */
function uintOf(r: Result<Message>, field: i32): Result<u64> {
  if (r.ok && !r.value.has(field)) return new Result<u64>(0, Errno.IO);
  return new Result<u64>(r.value.uint(field), r.error);
}

/** A field of a result, which must have it. */
function bytesOf(r: Result<Message>, field: i32): Result<Uint8Array> {
  if (r.ok && !r.value.has(field)) return new Result<Uint8Array>(NONE, Errno.IO);
  return new Result<Uint8Array>(r.value.bytes(field), r.error);
}

/** Whether the host knows a service, one of Service, and the operator has granted it. */
export function feature(service: u64): Result<bool> {
  const r = uintOf(call(Service.FEATURE, new Writer().uint(Field.OP, service)), Field.GRANTED);
  return new Result<bool>(r.value != 0, r.error);
}

/** Nanoseconds since 1970-01-01 UTC. Grant: clock. */
export function time(): Result<u64> {
  return uintOf(call(Service.TIME, new Writer()), Field.TIME_NS);
}

/** count random octets, up to 4096, fit for keys. Grant: random. */
export function random(count: i32): Result<Uint8Array> {
  return bytesOf(call(Service.RANDOM, new Writer().uint(Field.COUNT, count)), Field.DATA);
}

/** Hashes data. The algorithm is md5, sha-1 or sha-256. */
export function hash(algorithm: string, data: Uint8Array): Result<Uint8Array> {
  return bytesOf(call(Service.HASH, new Writer().text(Field.ALGORITHM, algorithm).bytes(Field.DATA, data)), Field.DIGEST);
}

/** The HMAC of data under a secret. */
export function hmac(algorithm: string, secret: Uint8Array, data: Uint8Array): Result<Uint8Array> {
  const request = new Writer().text(Field.ALGORITHM, algorithm).bytes(Field.DATA, data).bytes(Field.SECRET, secret);
  return bytesOf(call(Service.HASH, request), Field.DIGEST);
}

/** An entry of the store. */
export class Entry {
  constructor(
    public value: Uint8Array,
    /** Another with each write: see kv.cas. */
    public version: u64,
  ) {}

  /** The value, if it is UTF-8, otherwise "". */
  get text(): string {
    const text = decode(this.value);
    return text != null ? text : "";
  }
}

/**
 * The plugin's store: shared by all its instances, and still there after a reload.
 * When it is full, the entries longest unused go. Grant: kv.
 *
 * ttl is how many milliseconds an entry lives; 0: until it is pushed out.
 */
export namespace kv {
  function request(key: string, ttl: u64): Writer {
    const w = new Writer().text(Field.KEY, key);
    return ttl > 0 ? w.uint(Field.TTL_MS, ttl) : w;
  }

  /** Reads an entry. Errno.NOENT: there is none. */
  export function get(key: string): Result<Entry> {
    const r = call(Service.KV_GET, request(key, 0));
    return new Result<Entry>(new Entry(r.value.bytes(Field.VALUE), r.value.uint(Field.VERSION)), r.error);
  }

  /** Writes an entry and returns its version. Errno.TOOBIG: key or value is too long. */
  export function set(key: string, value: Uint8Array, ttl: u64 = 0): Result<u64> {
    return uintOf(call(Service.KV_SET, request(key, ttl).bytes(Field.VALUE, value)), Field.VERSION);
  }

  /**
   * Writes an entry if it has this version still; 0: if there is none.
   * Errno.CONFLICT: it has another.
   */
  export function cas(key: string, value: Uint8Array, version: u64, ttl: u64 = 0): Result<u64> {
    const w = request(key, ttl).bytes(Field.VALUE, value).uint(Field.VERSION, version);
    return uintOf(call(Service.KV_CAS, w), Field.VERSION);
  }

  /** Removes an entry. Errno.NOENT: there was none. */
  export function del(key: string): Result<bool> {
    return status(call(Service.KV_DEL, request(key, 0)));
  }

  /**
   * Adds to the number in an entry, which begins as 0, and returns what it is now.
   * ttl counts for an entry that is made now; one that is there keeps its end.
   * Errno.INVAL: the entry is no number.
   */
  export function incr(key: string, count: i64, ttl: u64 = 0): Result<i64> {
    const r = uintOf(call(Service.KV_INCR, request(key, ttl).uint(Field.COUNT, <u64>count)), Field.COUNT);
    return new Result<i64>(<i64>r.value, r.error);
  }
}

/**
 * Numbers for the operator's monitoring. Names and label names are letters, digits
 * and underscores. Errno.AGAIN: the plugin has 100 series already.
 */
export namespace metric {
  function write(kind: string, name: string, count: u64, labels: Pair[]): Result<bool> {
    const w = new Writer().text(Field.NAME, name).text(Field.KIND, kind).uint(Field.COUNT, count);
    for (let i = 0; i < labels.length; i++) w.pair(Field.LABEL, labels[i].name, labels[i].text);
    return status(call(Service.METRIC, w));
  }

  /** Adds to a counter. */
  export function counter(name: string, count: u64 = 1, labels: Pair[] = []): Result<bool> {
    return write("counter", name, count, labels);
  }

  /** Sets a gauge. */
  export function gauge(name: string, value: u64, labels: Pair[] = []): Result<bool> {
    return write("gauge", name, value, labels);
  }

  /** Adds an observation to a histogram. */
  export function histogram(name: string, value: u64, labels: Pair[] = []): Result<bool> {
    return write("histogram", name, value, labels);
  }
}

/**
 * A request to a web service. Grant: http, with the URLs that it may begin with.
 *
 *     const response = new HttpRequest("GET", "https://hr.example/user/alice").header("Accept", "text/plain").send();
 *     if (response.status == 200) … response.text …
 */
export class HttpRequest {
  private fields: Writer = new Writer();

  constructor(method: string, url: string) {
    this.fields.text(Field.METHOD, method).text(Field.URI, url);
  }

  header(name: string, text: string): HttpRequest {
    this.fields.pair(Field.HEADER, name, text);
    return this;
  }

  body(octets: Uint8Array): HttpRequest {
    this.fields.bytes(Field.BODY, octets);
    return this;
  }

  /**
   * Sends the request and waits for the answer, at most until the call's deadline
   * (Errno.TIMEDOUT). Redirects are not followed. In on_load it is Errno.INVAL.
   */
  send(): HttpResponse {
    const r = call(Service.HTTP, this.fields);
    return new HttpResponse(r.value, r.error);
  }
}

/** What a web service has answered. A status such as 404 is no error. */
export class HttpResponse {
  constructor(
    private message: Message,
    /** 0, or one of Errno: there is no answer. */
    public error: i32,
  ) {}

  get ok(): bool {
    return this.error >= 0;
  }

  /** The HTTP status; 0 if there is no answer. */
  get status(): i32 {
    return <i32>this.message.uint(Field.STATUS);
  }

  /** All header fields. */
  get headers(): Pair[] {
    return this.message.pairs(Field.HEADER);
  }

  /** The first header field of this name, in whatever case; "" if there is none. */
  header(name: string): string {
    const all = this.headers, lower = name.toLowerCase();
    for (let i = 0; i < all.length; i++) {
      if (all[i].name.toLowerCase() == lower) return all[i].text;
    }
    return "";
  }

  get body(): Uint8Array {
    return this.message.bytes(Field.BODY);
  }

  /** The body, if it is UTF-8, otherwise "". */
  get text(): string {
    const text = decode(this.body);
    return text != null ? text : "";
  }
}

/** Attributes of the session that the call is about. */
export namespace session {
  /** Reads an attribute, with what this call has set. Errno.NOENT: there is none. */
  export function get(name: string): Result<string> {
    const r = call(Service.SESSION_GET, new Writer().text(Field.NAME, name));
    return new Result<string>(r.value.text(Field.TEXT), r.error);
  }

  /** Sets an attribute, if this call's verdict is done. */
  export function set(name: string, text: string): Result<bool> {
    return status(call(Service.SESSION_SET, new Writer().text(Field.NAME, name).text(Field.TEXT, text)));
  }
}
