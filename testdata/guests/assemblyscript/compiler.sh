# Read by build.sh and test.sh, in the root of the repository: sets asc to the
# compiler that sdk/assemblyscript/hello/package-lock.json names. It is ASC, if
# that is set; else it is installed with npm into the folder ASC_CACHE, where it
# stays, or else into the folder $work.

asc=${ASC:-}
if [ -z "$asc" ]; then
	cache=${ASC_CACHE:-$work/compiler}
	lock=sdk/assemblyscript/hello/package-lock.json
	if ! cmp -s "$lock" "$cache/package-lock.json" || [ ! -x "$cache/node_modules/.bin/asc" ]; then
		mkdir -p "$cache"
		cp sdk/assemblyscript/hello/package.json "$lock" "$cache"
		(cd "$cache" && npm ci --no-audit --no-fund --loglevel=error >&2)
	fi
	asc=$(cd "$cache" && pwd)/node_modules/.bin/asc
fi

# compile OUTPUT SOURCE compiles a plugin as 'parley plugin new' lays it out, with
# the SDK in its folder: file names get into the module, and so are the same.
compile() {
	dir=$work/$(basename "$1" .wasm)
	mkdir "$dir" "$dir/sdk"
	cp sdk/assemblyscript/*.ts "$dir/sdk"
	cp sdk/assemblyscript/hello/asconfig.json "$dir"
	sed 's|from "[./a-z]*/parley"|from "./sdk/parley"|' "$2" >"$dir/plugin.ts"
	(cd "$dir" && "$asc" plugin.ts -o plugin.wasm)
	cp "$dir/plugin.wasm" "$1"
}
