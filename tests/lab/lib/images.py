"""What each level boots: an initramfs that holds its script and, when there is a further level, aerie and that level's files."""
import glob
import hashlib
import json
import os
import subprocess
import tempfile

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("AERIE_CACHE") or os.path.expanduser("~/.cache/aerie")


class CannotRun(Exception):
    """This machine cannot run the scenario: a skip with its reason, not a failure."""


def cpio(tree):
    """Pack {path: (mode, bytes)} as a newc archive: sorted, owned by root, without times, so that equal content is equal bytes."""
    out = bytearray()

    def member(name, mode, data, inode):
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out.extend(b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0")
        out.extend(bytes(-len(out) % 4) + data)
        out.extend(bytes(-len(out) % 4))

    folders = {"proc", "sys", "dev", "tmp"}
    for path in tree:  # each before what is in it: the kernel makes no parents
        while path := os.path.dirname(path):
            folders.add(path)
    for inode, path in enumerate(sorted(folders), 1):
        member(path, 0o040755, b"", inode)
    for inode, path in enumerate(sorted(tree), len(folders) + 1):
        mode, data = tree[path]
        member(path, mode if mode > 0o7777 else 0o100000 | mode, data, inode)
    member("TRAILER!!!", 0, b"", 0)
    return bytes(out)


def read(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()


def kernel():
    """Directory of Debian's cloud kernel: vmlinuz, release, modules/. One kernel serves every level."""
    suite = os.environ.get("LAB_SUITE") or "bookworm"
    return subprocess.run([f"{HERE}/kernel", suite], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def program(name):
    """A helper program of the guests, built once for each text of its source."""
    source = f"{HERE}/guest/{name}.c"
    binary = f"{CACHE}/{name}-{hashlib.sha256(read(source)).hexdigest()[:12]}"
    if not os.path.exists(binary):
        subprocess.run(["cc", "-O2", "-static", "-s", "-o", f"{binary}.{os.getpid()}", source], check=True)
        os.rename(f"{binary}.{os.getpid()}", binary)
    return binary


def busybox():
    """Debian's busybox knows its applets by their links only."""
    applets = subprocess.run(["/bin/busybox", "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    tree = {f"bin/{applet}": (0o120777, b"busybox") for applet in applets}
    tree["bin/busybox"] = (0o755, read("/bin/busybox"))
    return tree


def aerie():
    """Files of the binary under test: $AERIE_BIN, else the static build; libraries too when it turns out to be dynamic."""
    path = os.environ.get("AERIE_BIN") or f"{ROOT}/build-static/aerie"
    if not os.path.exists(path):
        raise SystemExit(f"lab: {path} is missing: run scripts/build --static, or set AERIE_BIN")
    tree = {"bin/aerie": (0o755, read(path))}
    ldd = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    for word in ldd.split():
        if word.startswith("/"):
            tree[word.lstrip("/")] = (0o755, read(word))
    return tree


def config(path, host):
    """A machine as the scenario gives it, its command line led by what this host's kernels need."""
    machine = json.loads(read(path))
    boot = machine["boot"]
    boot["cmdline"] = f"{host.guest_cmdline} {boot.get('cmdline', '')}".strip()
    if host.name == "native":
        machine["memory"].pop("hugepages", None)  # the host's pool is not ours to resize
    return json.dumps(machine, indent=2).encode() + b"\n"


def guest_files(scenario, level, host):
    """What it takes to run `level`: its machine (or several, l1-this.json and l1-that.json), kernel and initramfs."""
    tree = {os.path.basename(path): (0o644, config(path, host)) for path in glob.glob(f"{scenario.path}/{level}*.json")}
    tree["vmlinuz"] = (0o644, read(host.kernel, "vmlinuz"))
    tree[f"{level}.cpio"] = (0o644, initramfs(scenario, level, host))
    return tree


def prepared(scenario, level):
    """What the scenario's own `prepare` makes in an empty folder on this machine: images, programs with their libraries. They
    are L0's, but for what it puts into a folder called l1."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([f"{scenario.path}/prepare"], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        names = [os.path.relpath(os.path.join(top, name), folder) for top, _, files in os.walk(folder) for name in files]
        mine = {name.removeprefix("l1/"): name for name in names if name.startswith("l1/") == (level == "l1")}
        return {place: (os.stat(f"{folder}/{name}").st_mode & 0o777, read(folder, name)) for place, name in mine.items()}


def debian_disk():
    """An ext4 image of a small Debian; nobody may write to it."""
    if subprocess.run(["which", "mmdebstrap"], stdout=subprocess.DEVNULL).returncode:
        raise CannotRun("mmdebstrap missing: run scripts/deps lab")
    return subprocess.run([f"{HERE}/debian"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def initramfs(scenario, level, host):
    """The whole world of one level, the levels above it nested inside."""
    env = f"LEVEL={level.upper()} HOST={host.name} KVM_MODULE='{host.kvm_module}' MODULES='{' '.join(scenario.modules)}'\n"
    env += "".join(f"{name}='{value}'\n" for name, value in scenario.environment.items())
    tree = {
        "init": (0o755, read(HERE, "guest/init")),
        "lab.sh": (0o644, read(HERE, "guest/lab.sh")),
        "lab.env": (0o644, env.encode()),
        "run.sh": (0o644, read(scenario.path, f"{level}.sh")),
    }
    tree.update({f"bin/{name}": (0o755, read(program(name))) for name in scenario.programs})
    tree.update({os.path.basename(path): (0o755, read(path)) for path in glob.glob(f"{scenario.path}/{level}-*.sh")})
    tree.update(busybox())
    above = f"l{int(level[1]) + 1}"
    modules = list(scenario.modules)
    if scenario.has(above):
        tree.update(aerie())
        tree.update(guest_files(scenario, above, host))
        modules += ["irqbypass", "kvm", host.kvm_module.split()[0]]
    if scenario.aerie_in_last and not scenario.has(above):
        tree.update(aerie())
    if scenario.kvm_in_last and not scenario.has(above):
        modules += ["irqbypass", "kvm", host.kvm_module.split()[0]]
    if level in ("l0", "l1") and os.path.exists(f"{scenario.path}/prepare"):
        tree.update(prepared(scenario, level))
    for module in modules:
        tree[f"modules/{module}.ko"] = (0o644, read(host.kernel, "modules", f"{module}.ko"))
    return cpio(tree)
