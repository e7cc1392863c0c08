// The encoding of messages: see ABI.md, "Messages".

import { Field, Type } from "./registry";

/** Octets before each value: field, type and length. */
const HEADER: usize = 8;

/** Whether octets are UTF-8: no stray, missing or needless octets, no surrogates. */
export function isUTF8(octets: Uint8Array): bool {
  return validUTF8(octets.dataStart, octets.dataStart + octets.length);
}

function validUTF8(p: usize, end: usize): bool {
  while (p < end) {
    const lead = <u32>load<u8>(p++);
    if (lead < 0x80) continue;
    let more: usize = 1, least: u32 = 0x80, code: u32 = lead & 0x1f;
    if (lead < 0xc0 || lead > 0xf4) return false;
    if (lead >= 0xf0) {
      more = 3, least = 0x10000, code = lead & 0x07;
    } else if (lead >= 0xe0) {
      more = 2, least = 0x800, code = lead & 0x0f;
    }
    if (end - p < more) return false;
    for (; more > 0; more--) {
      const next = <u32>load<u8>(p++);
      if ((next & 0xc0) != 0x80) return false;
      code = (code << 6) | (next & 0x3f);
    }
    if (code < least || code > 0x10ffff || (code & 0xfffff800) == 0xd800) return false;
  }
  return true;
}

/** Whether a message can be read to its end. */
function wellFormed(p: usize, end: usize): bool {
  while (p < end) {
    if (end - p < HEADER) return false;
    const size = <usize>load<u32>(p, 4);
    p += HEADER;
    if (size > end - p) return false;
    p += size;
  }
  return true;
}

/** The text that octets are in UTF-8; null if they are not. */
export function decode(octets: Uint8Array): string | null {
  if (!isUTF8(octets)) return null;
  return String.UTF8.decodeUnsafe(octets.dataStart, octets.length);
}

/** A text as UTF-8. Half a surrogate pair, which UTF-8 cannot have, becomes U+FFFD. */
export function encode(text: string): Uint8Array {
  return Uint8Array.wrap(String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE));
}

/** Octets in lower-case hex, as ha1 is written. */
export function hex(octets: Uint8Array): string {
  const digits = "0123456789abcdef";
  let text = "";
  for (let i = 0; i < octets.length; i++) {
    text += digits.charAt(octets[i] >> 4) + digits.charAt(octets[i] & 15);
  }
  return text;
}

/** A name and the text that belongs to it. */
export class Pair {
  constructor(public name: string, public text: string) {}
}

/** What has no octets. */
export const NONE: Uint8Array = new Uint8Array(0);

/**
 * A message: fields, which are found when they are asked for.
 *
 * Whatever the octets are, reading never fails. A field that is absent, has
 * another type, or has a value that its type does not allow (a text that is not
 * UTF-8, say) reads as "", 0 or no octets. In a message that is malformed nothing
 * is found.
 */
export class Message {
  constructor(public octets: Uint8Array) {}

  /** All fields, in their order. */
  fields(): Reader {
    return new Reader(this.octets);
  }

  /** Whether the message can be read to its end. Values are not looked at. */
  get wellFormed(): bool {
    return wellFormed(this.octets.dataStart, this.octets.dataStart + this.octets.length);
  }

  /** A field; of one that is there more than once, the last. null: there is none. */
  find(field: i32): Reader | null {
    const r = this.fields();
    return r.toLast(field) ? r : null;
  }

  /** Whether there is a field. */
  has(field: i32): bool {
    return this.fields().toLast(field);
  }

  text(field: i32): string {
    const r = this.fields();
    return r.toLast(field) ? r.text() : "";
  }

  uint(field: i32, otherwise: u64 = 0): u64 {
    const r = this.fields();
    return r.toLast(field) && r.is(Type.UINT) ? r.uint() : otherwise;
  }

  bytes(field: i32): Uint8Array {
    const r = this.fields();
    return r.toLast(field) ? r.bytes() : NONE;
  }

  /** Each message in fields with this number. */
  messages(field: i32): Message[] {
    const list: Message[] = [];
    const r = this.fields();
    while (r.next()) {
      if (r.field == field && r.is(Type.MESSAGE)) list.push(r.message());
    }
    return list;
  }

  /** Each name and text in fields with this number, such as Field.PARAM. */
  pairs(field: i32): Pair[] {
    const list: Pair[] = [];
    const r = this.fields();
    while (r.next()) {
      if (r.field == field && r.is(Type.MESSAGE)) list.push(r.pair());
    }
    return list;
  }

  /** All texts that belong to a name. */
  pairList(field: i32, name: string): string[] {
    const list: string[] = [];
    const r = this.fields();
    while (r.next()) {
      if (r.field != field || !r.is(Type.MESSAGE)) continue;
      const pair = r.pair();
      if (pair.name == name) list.push(pair.text);
    }
    return list;
  }

  /** The text that belongs to a name; of a list, the last; "" if there is none. */
  pair(field: i32, name: string): string {
    const list = this.pairList(field, name);
    return list.length > 0 && this.wellFormed ? list[list.length - 1] : "";
  }
}

/** Walks over the fields of a message: while (r.next()) … r.field … r.text() … */
export class Reader {
  /** Number of the field: one of Field, or one that this SDK does not know. */
  field: i32 = -1;
  /** One of Type, or one that this SDK does not know. */
  type: i32 = -1;
  /** Whether the walk has ended before the message did. */
  malformed: bool = false;

  private at: usize; // where the value begins
  private size: usize = 0;
  private end: usize;

  /** octets are kept, since what is above points into them. */
  constructor(private octets: Uint8Array) {
    this.at = octets.dataStart;
    this.end = octets.dataStart + octets.length;
  }

  /** Goes on to the next field. Returns whether there is one. */
  next(): bool {
    const p = this.at + this.size, rest = this.end - p;
    if (rest == 0 || this.malformed) return false;
    if (rest < HEADER || <usize>load<u32>(p, 4) > rest - HEADER) {
      this.malformed = true;
      return false;
    }
    this.field = load<u16>(p);
    this.type = load<u16>(p, 2);
    this.size = load<u32>(p, 4);
    this.at = p + HEADER;
    return true;
  }

  /** Goes on to the last field with this number. Returns whether there is one. */
  toLast(field: i32): bool {
    let type = -1;
    let at = this.end, size: usize = 0;
    while (this.next()) {
      if (this.field != field) continue;
      type = this.type;
      at = this.at;
      size = this.size;
    }
    if (type < 0 || this.malformed) return false;
    this.field = field;
    this.type = type;
    this.at = at;
    this.size = size;
    return true;
  }

  /** The octets of the value, whatever its type. */
  raw(): Uint8Array {
    const begin = <i32>(this.at - this.octets.dataStart);
    return this.octets.subarray(begin, begin + <i32>this.size);
  }

  /** Whether the value is of a type, and what that type allows. */
  is(type: i32): bool {
    if (this.type != type) return false;
    if (type == Type.TEXT) return validUTF8(this.at, this.at + this.size);
    if (type == Type.UINT) return this.size == 8;
    if (type == Type.MESSAGE) return wellFormed(this.at, this.at + this.size);
    return true;
  }

  text(): string {
    return this.is(Type.TEXT) ? String.UTF8.decodeUnsafe(this.at, this.size) : "";
  }

  uint(): u64 {
    return this.is(Type.UINT) ? load<u64>(this.at) : 0;
  }

  bytes(): Uint8Array {
    return this.is(Type.BYTES) ? this.raw() : NONE;
  }

  message(): Message {
    return new Message(this.is(Type.MESSAGE) ? this.raw() : NONE);
  }

  /** Name and text of a parameter, attribute, header or label. */
  pair(): Pair {
    const pair = new Pair("", "");
    if (!this.is(Type.MESSAGE)) return pair;
    const inner = new Reader(this.octets);
    inner.at = this.at;
    inner.end = this.at + this.size;
    while (inner.next()) {
      if (inner.field == Field.NAME) pair.name = inner.text();
      if (inner.field == Field.TEXT) pair.text = inner.text();
    }
    return pair;
  }
}

/** Builds a message, field by field. It grows as it must. */
export class Writer {
  private room: Uint8Array = new Uint8Array(256);
  private size: i32 = 0;

  /** What has been written so far. */
  get octets(): Uint8Array {
    return this.room.subarray(0, this.size);
  }

  get length(): i32 {
    return this.size;
  }

  text(field: i32, value: string): Writer {
    return this.raw(field, Type.TEXT, encode(value));
  }

  uint(field: i32, value: u64): Writer {
    store<u64>(this.begin(field, Type.UINT, 8), value);
    return this;
  }

  bytes(field: i32, value: Uint8Array): Writer {
    return this.raw(field, Type.BYTES, value);
  }

  message(field: i32, value: Writer): Writer {
    return this.raw(field, Type.MESSAGE, value.octets);
  }

  /** A message of a name and a text: a parameter, attribute, header or label. */
  pair(field: i32, name: string, text: string): Writer {
    return this.message(field, new Writer().text(Field.NAME, name).text(Field.TEXT, text));
  }

  /** A field of any type. The octets are not checked. */
  raw(field: i32, type: i32, value: Uint8Array): Writer {
    memory.copy(this.begin(field, type, value.length), value.dataStart, value.length);
    return this;
  }

  /** Makes room for a field, writes its header and returns where its value belongs. */
  private begin(field: i32, type: i32, size: i32): usize {
    const at = this.size, end = at + <i32>HEADER + size;
    if (end > this.room.length) {
      const larger = new Uint8Array(max(end, 2 * this.room.length));
      memory.copy(larger.dataStart, this.room.dataStart, at);
      this.room = larger;
    }
    this.size = end;
    const p = this.room.dataStart + at;
    store<u16>(p, <u16>field);
    store<u16>(p, <u16>type, 2);
    store<u32>(p, size, 4);
    return p + HEADER;
  }
}
