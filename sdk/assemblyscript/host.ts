// The four imports, replies and the log.

import { Message, NONE, Writer, decode, encode } from "./message";
import { Field, Level, Sink, Source, Verdict, errnoText } from "./registry";

// @ts-ignore: decorator
@external("parley1", "read")
declare function hostRead(source: u32, offset: u32, destination: usize, capacity: u32): i32;
// @ts-ignore: decorator
@external("parley1", "write")
declare function hostWrite(sink: u32, pointer: usize, length: u32): i32;
// @ts-ignore: decorator
@external("parley1", "log")
declare function hostLog(level: u32, pointer: usize, length: u32): void;
// @ts-ignore: decorator
@external("parley1", "call")
declare function hostCall(service: u32, pointer: usize, length: u32): i32;

/** What a service has answered. value is empty if error is not 0. */
export class Result<T> {
  constructor(
    public value: T,
    /** 0, or one of Errno. */
    public error: i32 = 0,
  ) {}

  get ok(): bool {
    return this.error >= 0;
  }
}

/** Size of a source, one of Source; below zero one of Errno. */
export function sourceSize(source: i32): i32 {
  return hostRead(source, 0, 0, 0);
}

/** All of a source. size is how large it is, if that is known. */
export function read(source: i32, size: i32 = -1): Uint8Array {
  if (size < 0) size = sourceSize(source);
  while (size > 0) {
    const octets = new Uint8Array(size);
    const now = hostRead(source, 0, octets.dataStart, size);
    if (now <= size) return octets.subarray(0, max(now, 0));
    size = now;
  }
  return NONE;
}

/**
 * Appends octets to a sink, one of Sink. Returns its size, or below zero one of
 * Errno. Replies have no need of it.
 */
export function write(sink: i32, octets: Uint8Array): i32 {
  return hostWrite(sink, octets.dataStart, octets.length);
}

/**
 * Asks a service, one of Service. There is a function for each: kv.get, hash and
 * so on.
 */
export function call(service: i32, request: Writer): Result<Message> {
  const octets = request.octets;
  const size = hostCall(service, octets.dataStart, octets.length);
  if (size < 0) return new Result<Message>(new Message(NONE), size);
  return new Result<Message>(new Message(read(Source.RESULT, size)));
}

/** The request of a hook, which has this size. */
export function input(size: i32): Message {
  return new Message(read(Source.INPUT, size));
}

/** The plugin's configuration, octet for octet. */
export function configOctets(): Uint8Array {
  return read(Source.CONFIG);
}

/** The plugin's configuration. If it is not UTF-8, that is a trap. */
export function config(): string {
  const text = decode(configOctets());
  if (text == null) throw new Error("the configuration is not UTF-8");
  return text;
}

export namespace log {
  /** Somebody must act. */
  export function error(line: string): void {
    at(Level.ERROR, line);
  }

  /** The operator should know. */
  export function warn(line: string): void {
    at(Level.WARN, line);
  }

  /** Rare and of interest. */
  export function info(line: string): void {
    at(Level.INFO, line);
  }

  /** Decisions. */
  export function debug(line: string): void {
    at(Level.DEBUG, line);
  }

  /** At one of Level. */
  export function at(level: i32, line: string): void {
    const octets = encode(line);
    hostLog(level, octets.dataStart, octets.length);
  }
}

/** No opinion: the next provider is asked. */
export function next(): i32 {
  return Verdict.NEXT;
}

/** Refuses. Status 0, which stands for 403, and an empty reason are left out. */
export function deny(status: i32 = 0, reason: string = ""): i32 {
  const r = new Reply();
  if (status != 0) r.fields.uint(Field.STATUS, status);
  if (reason.length > 0) r.fields.text(Field.REASON, reason);
  return r.send(Verdict.DENY);
}

/**
 * The plugin could not decide, and why: on_error of the binding applies, and the
 * instance lives on. In on_load it refuses the load. code is below zero.
 */
export function fail(reason: string, code: i32 = -1): i32 {
  const r = new Reply();
  if (reason.length > 0) r.fields.text(Field.REASON, reason);
  return r.send(code < 0 ? code : -1);
}

/**
 * A reply of any hook. AuthenticateReply and its like have a method for each
 * field; fields that those do not know can be added to fields.
 */
export class Reply {
  fields: Writer = new Writer();

  /** Sends the reply, which answers. Return what it returns. */
  done(): i32 {
    return this.send(Verdict.DONE);
  }

  /**
   * Sends the reply and returns what the hook returns. A reply that the host does
   * not take is a failure, never a shorter reply.
   */
  send(verdict: i32): i32 {
    if (this.fields.length == 0) return verdict;
    const size = write(Sink.REPLY, this.fields.octets);
    if (size >= 0) return verdict;
    const why = new Writer().text(Field.REASON, "a reply of " + this.fields.length.toString() + " octets: " + errorText(size));
    write(Sink.REPLY, why.octets); // if there is no room for it either, the number says enough
    return size;
  }
}

/** An error as text, such as "NOENT (there is no such entry)". */
export function errorText(error: i32): string {
  const text = errnoText(error);
  return text.length > 0 ? text : "errno " + error.toString();
}
