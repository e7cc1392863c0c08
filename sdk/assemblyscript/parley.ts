/**
 * Write plugins for Parley in AssemblyScript.
 *
 *     import { AuthenticateReply, AuthenticateRequest, next } from "./sdk/parley";
 *     export { parley_abi } from "./sdk/parley";
 *
 *     export function on_authenticate(size: i32): i32 {
 *       const request = new AuthenticateRequest(size);
 *       if (request.username != "alice") return next(); // somebody else may know
 *       return new AuthenticateReply().password("wonderland").done();
 *     }
 *
 * A plugin exports parley_abi and one function per hook that it answers. README.md
 * says how to build it; ABI.md is the contract in words, whose names the fields
 * have here too.
 */

import { MAJOR, MINOR } from "./registry";

export * from "./host";
export * from "./message";
export * from "./registry";
export * from "./services";

/** Says that this is a plugin. Export it. */
export function parley_abi(): i32 {
  return (MAJOR << 16) | MINOR;
}
