"""The three machines L0 can be: an emulated AMD PC, an emulated Intel PC, or this one."""
import glob
import os
import shutil
import subprocess

from images import CannotRun, HERE, debian_disk, guest_files, initramfs, kernel, program, read

# What every kernel gets: no speculation work-arounds (they cost an emulator dearly and protect nothing here), one address
# layout in every run, and a panic that ends the machine at once instead of hanging it.
QUIET = "console=ttyS0 panic=-1 quiet mitigations=off nokaslr init_on_alloc=0 cryptomgr.notests"


def emulator(name):
    built = subprocess.run([f"{HERE}/build-emulator", name], check=True, stdout=subprocess.PIPE, text=True)
    return f"{built.stdout.strip()}/emulator"


def need(*paths):
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise CannotRun(f"{', '.join(missing)} missing: run scripts/deps lab")


class Svm:
    """QEMU's TCG as an AMD machine. With -icount one virtual nanosecond is one instruction: two runs are identical to
    the byte. $LAB_SEED makes another run of it, by way of what RDRAND answers."""

    name = "svm"
    about = "an emulated AMD machine (QEMU TCG)"
    kvm_module = "kvm-amd nested=1 npt=1"
    guest_cmdline = QUIET

    def prepare(self):
        need("/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/linuxboot_dma.bin", "/bin/busybox")
        self.emulator = emulator("qemu")
        self.kernel = kernel()
        program("probe")

    def command(self, scenario, folder):
        with open(f"{folder}/l0.cpio", "wb") as file:
            file.write(initramfs(scenario, "l0", self))
        return [
            self.emulator, "-L", "/usr/share/seabios", "-L", "/usr/share/qemu",
            "-accel", "tcg,tb-size=1024", "-cpu", os.environ.get("LAB_CPU") or "EPYC", "-machine", "q35", "-m", "2048", "-smp", "1",
            "-icount", "shift=0,sleep=off", "-rtc", "base=2026-01-01,clock=vm",
            "-seed", os.environ.get("LAB_SEED") or "1",
            "-display", "none", "-nodefaults", "-serial", "file:serial.log", "-no-reboot",
            "-kernel", f"{self.kernel}/vmlinuz", "-initrd", "l0.cpio", "-append", QUIET,
        ] + (["-drive", f"file={debian_disk()},format=raw,if=virtio,snapshot=on"] if scenario.disk else [])


class Vmx:
    """Bochs as an Intel machine: everything VMX has, and no direct kernel boot, so L0 comes from a CD."""

    name = "vmx"
    about = "an emulated Intel machine (Bochs)"
    kvm_module = "kvm-intel nested=1 ept=1 enable_shadow_vmcs=1"
    clock = "tsc=reliable no_timer_check"  # calibrating against emulated timers takes long and fails often
    guest_cmdline = f"{QUIET} {clock} lpj=4000000"

    def prepare(self):
        need("/usr/share/bochs/BIOS-bochs-latest", "/usr/share/vgabios/vgabios.bin", "/usr/lib/grub/i386-pc", "/bin/busybox")
        self.emulator = emulator("bochs")
        self.kernel = kernel()
        program("probe")

    def command(self, scenario, folder):
        self.make_iso(scenario, folder)
        # A fixed time of day makes two runs alike, as with svm; $LAB_SEED makes another by starting at another second.
        seconds = 1767225600 + int(os.environ.get("LAB_SEED") or "1")
        with open(f"{folder}/bochsrc", "wb") as file:
            model = os.environ.get("LAB_CPU") or "corei7_skylake_x"
            file.write(read(HERE, "guest/bochsrc").replace(b"@TIME@", str(seconds).encode()).replace(b"@CPU@", model.encode()))
        return [self.emulator, "-q", "-f", "bochsrc"]

    def make_iso(self, scenario, folder):
        # tsc_early_khz is bochsrc's ips / 1000: with a TSC of unknown rate KVM refuses the preemption timer.
        cmdline = (f"{QUIET} {self.clock} console=ttyS0,115200 8250.nr_uarts=1 tsc_early_khz=300000 clearcpuid=aperfmperf")
        tree = f"{folder}/iso"
        os.makedirs(f"{tree}/boot/grub")
        shutil.copy(f"{self.kernel}/vmlinuz", tree)
        with open(f"{tree}/l0.cpio", "wb") as file:
            file.write(initramfs(scenario, "l0", self))
        with open(f"{tree}/boot/grub/grub.cfg", "w") as file:
            file.write(f"serial --unit=0 --speed=115200\nterminal_output serial\nset timeout=0\nlinux /vmlinuz {cmdline}\ninitrd /l0.cpio\nboot\n")
        subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "--locales=", "--fonts=", "--themes=",
                        "--install-modules=biosdisk iso9660 linux normal serial", "-o", f"{folder}/l0.iso", tree],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        shutil.rmtree(tree)


class Native:
    """This machine, where it can nest."""

    name = "native"
    about = "this machine"
    guest_cmdline = QUIET

    def prepare(self):
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            raise CannotRun("no usable /dev/kvm")
        nested = [path for path in glob.glob("/sys/module/kvm_*/parameters/nested") if read(path).strip() in (b"Y", b"1")]
        if not nested:
            raise CannotRun("/dev/kvm cannot nest: no kvm_intel or kvm_amd with nested=1 (see aerie doctor)")
        module = nested[0].split("/")[3].replace("_", "-")
        self.kvm_module = f"{module} nested=1"
        need("/bin/busybox")
        self.kernel = kernel()
        program("probe")

    def command(self, scenario, folder):
        os.makedirs(f"{folder}/bin")
        for path, (mode, data) in guest_files(scenario, "l1", self).items():
            with open(f"{folder}/{path}", "wb") as file:
                file.write(data)
        for name in scenario.programs:
            os.symlink(program(name), f"{folder}/bin/{name}")
        os.symlink(os.path.abspath(os.environ.get("AERIE_BIN") or f"{HERE}/../../build-static/aerie"), f"{folder}/bin/aerie")
        shutil.copy(f"{HERE}/guest/lab.sh", folder)
        with open(f"{folder}/lab.env", "w") as file:
            file.write(f"LEVEL=L0 HOST=native KVM_MODULE='{self.kvm_module}'\n")
            file.writelines(f"{name}='{value}'\n" for name, value in scenario.environment.items())
        # L0 is up already, and its KVM and its memory are the operator's: two of the lab's words mean nothing here.
        script = ('exec >serial.log 2>&1; PATH=$PWD/bin:$PATH; . ./lab.sh; load_kvm() { :; }; hugepages() { :; }; '
                  f'introduce 0; . {scenario.path}/l0.sh; say end')
        return ["busybox", "sh", "-c", script]


HOSTS = {host.name: host for host in (Svm, Vmx, Native)}
