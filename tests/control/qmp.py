"""A machine with a control socket, and a QMP client that trusts nothing. For the tests beside this file."""
import json, os, socket, subprocess, sys, tempfile, time

TIMEOUT = 30


class Machine:
    """aerie run with one of tests/native's payloads; a context manager."""

    def __init__(self, payload, *options, devices=(), set=None):
        self.folder = tempfile.TemporaryDirectory(prefix="aerie-control-")
        path = lambda name: os.path.join(self.folder.name, name)
        kernel = os.path.join(os.environ["AERIE_BUILD"], "tests", "native", payload + ".elf")
        config = {"name": "example", "cpus": {"count": 2}, "memory": {"size": "64M"}, "boot": {"kernel": kernel},
                  "devices": list(devices), "debug": {"exit": True, "console": "stderr"}, **(set or {})}
        with open(path("machine.json"), "w") as file:
            json.dump(config, file)
        with open(path("disk.img"), "wb") as file:
            file.truncate(1 << 20)
        self.socket = path("control.sock")
        self.log = open(path("log"), "w+")
        self.process = subprocess.Popen([os.environ["AERIE_BIN"], "run", path("machine.json"), "--control",
                                         self.socket, *options], stdin=subprocess.DEVNULL, stderr=self.log, cwd="/")
        self.deadline = time.monotonic() + TIMEOUT
        while not os.path.exists(self.socket):
            self.check_time("no socket")
            if self.process.poll() is not None:
                fail(f"aerie ended with {self.process.returncode}:\n{self.text()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def text(self):
        with open(os.path.join(self.folder.name, "log"), errors="replace") as file:
            return file.read()

    def check_time(self, what):
        if time.monotonic() > self.deadline:
            fail(f"{what} after {TIMEOUT} s:\n{self.text()}")
        time.sleep(0.002)

    def wait_text(self, word):
        while word not in self.text():
            self.check_time(f'no "{word}"')

    def wait_end(self):
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            fail(f"does not end:\n{self.text()}")


class Client:
    def __init__(self, machine, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        while True:
            try:
                self.socket.connect(machine.socket)
                break
            except (BlockingIOError, ConnectionRefusedError):  # the backlog is full, or bound and not yet listening
                machine.check_time("cannot connect")
        self.bytes, self.events = b"", []
        if negotiate:
            self.greeting = self.receive()
            self.ask("qmp_capabilities")

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next message; None when the other side hung up."""
        while b"\r\n" not in self.bytes:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            except TimeoutError:
                fail("no message")
            if not more:
                return None
            self.bytes += more
        line, self.bytes = self.bytes.split(b"\r\n", 1)
        return json.loads(line.decode("ascii"))

    def answer(self):
        while True:
            message = self.receive()
            if message is None or "event" not in message:
                return message
            self.events.append(message)

    def raw(self, command, **arguments):
        self.send(json.dumps({"execute": command, "arguments": arguments} if arguments
                             else {"execute": command}).encode())
        return self.answer()

    def ask(self, command, **arguments):
        answer = self.raw(command, **arguments)
        if answer is None or "return" not in answer:
            fail(f"{command}: {answer}")
        return answer["return"]

    def wait_event(self, name):
        for event in self.events:
            if event["event"] == name:
                self.events.remove(event)
                return event
        while True:
            message = self.receive()
            if message is None:
                fail(f"hung up before {name}")
            if message.get("event") == name:
                return message
            self.events.append(message)


def fail(what):
    sys.exit(f"FAILED: {what}")


def expect(condition, what):
    if not condition:
        fail(what)


def need_kvm():
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as error:
        print(f"skipped: /dev/kvm: {error.strerror}")
        sys.exit(77)
