// The codec against testdata/abi/vectors.json: node vectors.mjs vectors.wasm vectors.json

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

const [module, vectors] = process.argv.slice(2);

let input = Buffer.alloc(0);
let reply = [];
let lines = [];

const octets = (pointer, length) => Buffer.from(new Uint8Array(memory.buffer, pointer, length));
const {
  exports: { memory, codec, ask, text, unit },
} = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(module)), {
  env: {
    abort() {
      throw new Error("abort");
    },
  },
  parley1: {
    read(source, offset, destination, capacity) {
      assert.equal(source, 0);
      const piece = input.subarray(offset, offset + capacity);
      new Uint8Array(memory.buffer, destination, piece.length).set(piece);
      return input.length;
    },
    write(sink, pointer, length) {
      reply.push(octets(pointer, length));
      return length;
    },
    log(level, pointer, length) {
      lines.push(octets(pointer, length).toString());
    },
  },
});

const types = { bytes: 0, text: 1, uint: 2, message: 3 };
const fields = { status: 120, username: 8, param: 19 };
const { valid, invalid } = JSON.parse(readFileSync(vectors, "utf8"));

const run = (hex) => {
  input = Buffer.from(hex, "hex");
  reply = [];
  lines = [];
  return codec(input.length);
};

for (const v of valid) {
  assert.equal(run(v.hex), 1, v.name);
  assert.deepEqual(JSON.parse(lines[0]), v.fields, v.name);
  assert.equal(Buffer.concat(reply).toString("hex"), v.hex, v.name);
}
for (const v of invalid) {
  const good = run(v.hex);
  if (v.ask) {
    assert.equal(good, 1, v.name);
    assert.equal(ask(input.length, fields[v.ask[0]], types[v.ask[1]]), 0, v.name);
  } else {
    assert.equal(good, 0, v.name);
  }
}

// Every cut and every flipped bit of a message can be read.
for (const v of valid) {
  const whole = Buffer.from(v.hex, "hex");
  for (let end = 0; end < whole.length; end++) run(whole.subarray(0, end).toString("hex"));
  for (let bit = 0; bit < 8 * whole.length; bit++) {
    const flipped = Buffer.from(whole);
    flipped[bit >> 3] ^= 1 << (bit & 7);
    run(flipped.toString("hex"));
  }
}

// What is UTF-8 is what Node takes for it.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const edges = [0, 1, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff];
let tried = 0;
const check = (value) => {
  const header = Buffer.from("0800010000000000", "hex");
  header.writeUInt32LE(value.length, 4);
  input = Buffer.concat([header, Buffer.from(value)]);
  lines = [];
  text(input.length, 8);
  let want = "";
  try {
    want = utf8.decode(Buffer.from(value));
  } catch {}
  assert.equal(lines[0], want, Buffer.from(value).toString("hex"));
  tried++;
};
for (const a of edges) {
  check([a]);
  for (const b of edges) {
    check([a, b]);
    for (const c of edges) {
      check([a, b, c]);
      if (a >= 0xf0) for (const d of edges) check([a, b, c, d]);
    }
  }
}
lines = [];
unit(0xd800);
assert.equal(lines[0], "<\ufffd>");

// Memory is freed.
assert.ok(memory.buffer.byteLength <= 1 << 20, `${memory.buffer.byteLength} octets of memory`);
console.log(`${valid.length} valid, ${invalid.length} invalid, ${tried} texts: good`);
