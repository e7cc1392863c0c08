// Chats in Chromium through a relay: node test.mjs PAGE URL RELAY USER PASSWORD PEER
// prints the page's path, sends a text to the peer, waits for a long one, and
// prints its length. playwright-core is found by NODE_PATH, chromium by PATH.
import { createRequire } from "node:module";

const { chromium } = createRequire(import.meta.url)("playwright-core");
const [address, url, relay, user, password, peer] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--ignore-certificate-errors"] });
try {
	const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
	page.setDefaultTimeout(20_000);
	page.on("pageerror", (err) => console.log("page:", err.message));
	await page.goto(address);
	for (const [id, value] of Object.entries({ url, relay, user, password, peer, text: "hello from the page, with an ä" })) {
		await page.fill("#" + id, value);
	}
	await page.click("#login button");
	await page.waitForSelector("#send:enabled, .error");
	console.log("path", await page.textContent("#path"));
	if (await page.isEnabled("#send")) {
		await page.click("#send");
		await page.waitForSelector(".sent, .error");
		await page.waitForSelector(".received, .error");
	}
	console.log("errors", JSON.stringify(await page.locator(".error").allTextContents()));
	console.log("received", (await page.locator(".received").allTextContents()).join("").length - 2);
} finally {
	await browser.close();
}
