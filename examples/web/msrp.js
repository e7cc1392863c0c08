// A client of MSRP over WebSocket (RFC 7977): enough to chat through a relay.
//
//   const c = new MSRP("wss://relay.example.com/msrp", "msrps://relay.example.com:443;ws");
//   c.onmessage = (text, from) => …;
//   const path = await c.open("alice", "password");   // what others send to
//   await c.send(peersPath, "hello");
"use strict";

class MSRP {
	// url is where the WebSocket connects, relay how the relay calls itself there.
	constructor(url, relay) {
		this.url = url;
		this.relay = relay;
		// Nobody connects to this name: it only has to be ours alone (RFC 7977, appendix A).
		const scheme = relay.startsWith("msrps:") ? "msrps" : "msrp";
		this.uri = `${scheme}://${MSRP.id()}.invalid:2855/${MSRP.id()};ws`;
		this.waiting = new Map(); // transaction id -> who waits for its response
		this.partial = new Map(); // Message-ID -> what has come of it
		this.onmessage = this.onclose = () => {};
	}

	static id() {
		return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
	}

	// open connects and authenticates. Without a password it relies on what the
	// handshake said: a cookie, or ?access_token= in the URL.
	async open(user, password) {
		await new Promise((resolve, reject) => {
			this.ws = new WebSocket(this.url, "msrp");
			this.ws.binaryType = "arraybuffer";
			this.ws.onopen = resolve;
			this.ws.onmessage = (e) => this.receive(e.data);
			this.ws.onclose = (e) => {
				const why = new Error(`closed: ${e.code} ${e.reason}`);
				reject(why);
				for (const w of this.waiting.values()) w.reject(why);
				this.waiting.clear();
				this.onclose(why);
			};
		});
		let r = await this.request("AUTH", this.relay, []);
		if (r.code === 401) {
			r = await this.request("AUTH", this.relay, ["Authorization: " + digest(r.all("WWW-Authenticate"), user, password, this.relay)]);
		}
		if (r.code !== 200) throw new Error(`AUTH: ${r.code} ${r.comment}`);
		this.use = r.get("Use-Path").split(" "); // the relays, in the order of use
		return [...this.use].reverse().concat(this.uri).join(" ");
	}

	// send sends a text to a peer's path, in chunks that leave room for others.
	async send(path, text) {
		const body = new TextEncoder().encode(text);
		const message = MSRP.id(), to = [...this.use, path].join(" ");
		for (let from = 0; from === 0 || from < body.length; from += 2048) {
			const part = body.subarray(from, from + 2048), end = from + part.length;
			const r = await this.request("SEND", to, [
				`Message-ID: ${message}`, `Byte-Range: ${from + 1}-${end}/${body.length}`, "Content-Type: text/plain",
			], part, end < body.length ? "+" : "$");
			if (r.code !== 200) throw new Error(`SEND: ${r.code} ${r.comment}`);
		}
	}

	close() {
		this.ws.close(1000);
	}

	request(method, to, headers, body, flag = "$") {
		const tid = MSRP.id();
		const response = new Promise((resolve, reject) => this.waiting.set(tid, { resolve, reject }));
		this.write(`MSRP ${tid} ${method}`, to, this.uri, headers, tid, body, flag);
		return response;
	}

	// write sends one frame: one message of the WebSocket (RFC 7977 §5.1).
	write(start, to, from, headers, tid, body, flag) {
		const head = [start, `To-Path: ${to}`, `From-Path: ${from}`, ...headers].join("\r\n") + "\r\n";
		const parts = body ? [head, "\r\n", body, "\r\n"] : [head];
		this.ws.send(new Blob([...parts, `-------${tid}${flag}\r\n`]));
	}

	receive(data) {
		if (typeof data === "string") data = new TextEncoder().encode(data);
		const octets = new Uint8Array(data);
		let text = "";
		for (const o of octets) text += String.fromCharCode(o); // one character is one octet
		const start = /^MSRP (\S+) (?:(\d{3})(?: ([^\r]*))?|([A-Z]+))\r\n/.exec(text);
		if (!start) return;
		const [, tid, code, comment, method] = start;
		const flag = text[text.length - 3], end = text.length - `-------${tid}$\r\n`.length;
		const blank = text.indexOf("\r\n\r\n");
		const headers = text.slice(start[0].length, blank < 0 ? end : blank).split("\r\n").map((l) => /^([^:]+): *(.*)$/.exec(l)).filter(Boolean);
		const all = (name) => headers.filter((h) => h[1].toLowerCase() === name.toLowerCase()).map((h) => h[2]);
		const frame = { code: Number(code), comment: comment || "", all, get: (name) => all(name)[0] };
		if (code) {
			this.waiting.get(tid)?.resolve(frame);
			this.waiting.delete(tid);
			return;
		}
		if (method === "REPORT") return; // never answered
		const known = method === "SEND";
		if (!known || !/^(no|partial)$/.test(frame.get("Failure-Report"))) {
			const to = known ? frame.get("From-Path").split(" ")[0] : frame.get("From-Path");
			this.write(`MSRP ${tid} ${known ? "200 OK" : "501 Unknown method"}`, to, frame.get("To-Path").split(" ")[0], [], tid, null, "$");
		}
		if (known && blank >= 0) this.piece(frame, octets.subarray(blank + 4, Math.max(blank + 4, end - 2)), flag);
	}

	// piece puts the chunks of a message together, which come in order.
	piece(frame, body, flag) {
		const id = frame.get("Message-ID"), got = this.partial.get(id) || { parts: [], size: 0 };
		got.parts.push(body);
		got.size += body.length;
		this.partial.delete(id);
		if (flag === "$") {
			const from = frame.get("From-Path"), tid = MSRP.id();
			if (frame.get("Success-Report") === "yes") {
				this.write(`MSRP ${tid} REPORT`, from, this.uri, [`Message-ID: ${id}`, `Byte-Range: 1-${got.size}/${got.size}`, "Status: 000 200 OK"], tid, null, "$");
			}
			new Blob(got.parts).text().then((text) => this.onmessage(text, from.split(" ").slice(this.use.length).join(" ")));
		} else if (flag === "+" && got.size < 1 << 20 && this.partial.size < 16) {
			this.partial.set(id, got);
		}
	}
}

// digest answers a challenge (RFC 4976 §9.1), with MD5 as all relays have it.
function digest(challenges, user, password, uri) {
	for (const c of challenges) {
		const p = Object.fromEntries(Array.from(c.matchAll(/(\w+)=(?:"([^"]*)"|([^\s,]+))/g), (m) => [m[1].toLowerCase(), m[2] ?? m[3]]));
		if ((p.algorithm || "MD5").toUpperCase() !== "MD5") continue;
		const cnonce = MSRP.id(), nc = "00000001";
		const ha1 = md5(`${user}:${p.realm}:${password}`), ha2 = md5(`AUTH:${uri}`);
		const response = md5([ha1, p.nonce, nc, cnonce, "auth", ha2].join(":"));
		return `Digest username="${user}", realm="${p.realm}", nonce="${p.nonce}", uri="${uri}", algorithm=MD5, ` +
			`qop=auth, nc=${nc}, cnonce="${cnonce}", response="${response}"` + (p.opaque === undefined ? "" : `, opaque="${p.opaque}"`);
	}
	throw new Error("the relay offers no MD5");
}

// md5 of a text, in hex (RFC 1321); browsers have all digests but this one.
function md5(text) {
	const b = new TextEncoder().encode(text), n = ((b.length + 8) >> 6) + 1;
	const words = new DataView(new ArrayBuffer(n * 64));
	b.forEach((o, i) => words.setUint8(i, o));
	words.setUint8(b.length, 0x80);
	words.setUint32(n * 64 - 8, b.length * 8, true);
	const turn = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
	let s = [0x67452301, 0xefcdab89 | 0, 0x98badcfe | 0, 0x10325476];
	for (let block = 0; block < n * 64; block += 64) {
		let [x, y, z, w] = s;
		for (let i = 0; i < 64; i++) {
			const r = i >> 4;
			const f = [(y & z) | (~y & w), (w & y) | (~w & z), y ^ z ^ w, z ^ (y | ~w)][r];
			const g = [i, 5 * i + 1, 3 * i + 5, 7 * i][r] & 15;
			const k = Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32) | 0;
			const v = (x + f + k + words.getInt32(block + g * 4, true)) | 0, t = turn[r][i & 3];
			[x, w, z, y] = [w, z, y, (y + ((v << t) | (v >>> (32 - t)))) | 0];
		}
		s = [(s[0] + x) | 0, (s[1] + y) | 0, (s[2] + z) | 0, (s[3] + w) | 0];
	}
	const out = new DataView(new ArrayBuffer(16));
	s.forEach((v, i) => out.setInt32(i * 4, v, true));
	return Array.from(new Uint8Array(out.buffer), (o) => o.toString(16).padStart(2, "0")).join("");
}
