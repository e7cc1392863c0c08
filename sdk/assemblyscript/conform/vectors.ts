// The codec, for vectors.mjs.

import { Message, Sink, Type, Writer, hex, input, log, write } from "../parley";

/** Logs the input's fields as JSON, and writes them anew to the reply. 0: it is malformed. */
export function codec(size: i32): i32 {
  const m = input(size);
  if (!m.wellFormed) return 0;
  log.info(json(m));
  write(Sink.REPLY, rewrite(m).octets);
  return 1;
}

/** Whether the input has a field whose value is of a type. */
export function ask(size: i32, field: i32, type: i32): i32 {
  const f = input(size).find(field);
  return f && f.is(type) ? 1 : 0;
}

/** What the input's field reads as, whatever it is. */
export function text(size: i32, field: i32): void {
  log.info(input(size).text(field));
}

/** A text of one unit, as it is logged. */
export function unit(code: i32): void {
  log.info("<" + String.fromCharCode(code) + ">");
}

function json(m: Message): string {
  let all = "";
  const r = m.fields();
  while (r.next()) {
    if (all != "") all += ",";
    all += "[" + r.field.toString() + ",";
    if (r.is(Type.TEXT)) all += '"text","' + r.text() + '"]';
    else if (r.is(Type.UINT)) all += '"uint","' + r.uint().toString() + '"]';
    else if (r.is(Type.MESSAGE)) all += '"message",' + json(r.message()) + "]";
    else all += '"bytes","' + hex(r.bytes()) + '"]';
  }
  return "[" + all + "]";
}

function rewrite(m: Message): Writer {
  const w = new Writer();
  const r = m.fields();
  while (r.next()) {
    if (r.is(Type.TEXT)) w.text(r.field, r.text());
    else if (r.is(Type.UINT)) w.uint(r.field, r.uint());
    else if (r.is(Type.MESSAGE)) w.message(r.field, rewrite(r.message()));
    else w.bytes(r.field, r.bytes());
  }
  return w;
}
