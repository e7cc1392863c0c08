#!/bin/sh
# Judges the package that `make deb` made: what is in it, and, on a machine that is
# only a layer above this one, how it is installed, run, upgraded and purged.
set -eu
deb=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "deb.sh: $*" >&2; exit 1; }

dpkg-deb -c "$deb" | awk '{print $1, $2, $6}' >"$dir/list"
while read -r want; do
	grep -qxF -- "$want" "$dir/list" || { cat "$dir/list"; fail "no $want"; }
done <<X
drwxr-x--- root/root ./etc/parley/
-rwxr-xr-x root/root ./usr/bin/parley
-rw-r--r-- root/root ./usr/lib/systemd/system/parley.service
-rw-r--r-- root/root ./usr/lib/systemd/system/parley.socket
-rw-r--r-- root/root ./usr/lib/sysusers.d/parley.conf
-rw-r--r-- root/root ./usr/lib/parley/plugins/auth-file.wasm
-rw-r--r-- root/root ./usr/share/doc/parley/examples/parley.yaml
-rw-r--r-- root/root ./usr/share/doc/parley/copyright
X
version=$(dpkg-deb -f "$deb" Version)
dpkg --validate-version "$version"
dpkg-deb -x "$deb" "$dir/x"
"$dir/x/usr/bin/parley" version
echo "deb.sh: $(basename "$deb"): $(du -k "$deb" | cut -f1) KiB, has what it must have"

# In a mount namespace, so that nothing is left; a tmpfs, since a layer cannot be in what it covers.
cat >"$dir/install" <<'X'
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root" || exit 99
mount --rbind /dev "$1/root/dev"
mount -t proc proc "$1/root/proc"
cp "$2" "$1/root/parley.deb"
cat >"$1/root/try" <<'Y'
set -eux
dpkg -i /parley.deb
getent passwd parley
test "$(stat -c '%U:%G %a' /etc/parley)" = 'root:parley 750'
cat >/etc/parley/parley.yaml <<'Z'
listeners: {edge: {uri: "msrp://localhost:2855;tcp"}}
plugins: {users: {file: /usr/lib/parley/plugins/auth-file.wasm, config: {format: csv, users: "alice,example.com,secret"}}}
Z
chown root:parley /etc/parley/parley.yaml
chmod 0640 /etc/parley/parley.yaml
setpriv --reuid parley --regid parley --init-groups /usr/bin/parley check-config /etc/parley/parley.yaml
dpkg -i /parley.deb # an upgrade
test -e /etc/parley/parley.yaml
dpkg -r parley
test -e /etc/parley/parley.yaml
dpkg -P parley
test ! -e /etc/parley -a ! -e /usr/bin/parley -a ! -e /var/lib/parley
Y
chroot "$1/root" sh /try
X
mkdir "$dir/m"
code=0
unshare --mount --pid --fork sh "$dir/install" "$dir/m" "$deb" >"$dir/log" 2>&1 || code=$?
case $code in
0) echo "deb.sh: installed, run, upgraded, removed and purged" ;;
99) echo "deb.sh: not installed: this machine does not mount overlays" ;;
*) cat "$dir/log"; fail "installing failed" ;;
esac
