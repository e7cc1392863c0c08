package parley

import "github.com/parley-msrp/parley/sdk/abi"

// What every plugin exports.

//go:wasmexport parley_abi
func exportABI() int32 { return abi.Major<<16 | abi.Minor }

//go:wasmexport on_load
func exportLoad(size int32) int32 { return Load(size) }
