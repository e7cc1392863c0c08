// Package sdk has the sources of the guest libraries and of their skeletons,
// for 'parley plugin new'. Plugins do not import it.
package sdk

import "embed"

// Files are the folders of this package.
//
//go:embed abi/*.go abi/ABI.md go rust c assemblyscript
var Files embed.FS
