"""Between two aeries: forwards a migration's messages with their descriptors, can hold pages back, and can break off
behind a message or in front of it; or it forwards bytes that it cannot read, until it is told to cut."""
import os, socket, struct, threading

PAGES, RUN, MEMFD = 7, 12, 22
HEADER_BYTES = 24


class Relay:
    def __init__(self, path, target, hold=False, cut_after=None, cut_before=None, mute_from=None, opaque=False):
        """Types of messages from the source. cut_after: behind it the connection ends; cut_before: in front of it;
        mute_from: what the other side says to it does not come, and the connection ends."""
        self.target, self.cut_after, self.cut_before, self.mute_from = target, cut_after, cut_before, mute_from
        self.mute = False
        self.first = b"" # bytes of an opaque connection
        self.forward = self.some if opaque else self.message
        self.go, self.ended = threading.Event(), threading.Event()
        if not hold:
            self.go.set()
        self.listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(path):
            os.unlink(path)
        self.listener.bind(path)
        self.listener.listen(1)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        source, _ = self.listener.accept()
        dest = socket.socket(socket.AF_UNIX)
        dest.connect(self.target)
        self.ends = source, dest
        threading.Thread(target=self.up, daemon=True).start()
        try:
            while self.forward(source, dest):
                pass
        except OSError:
            pass
        self.cut()

    def message(self, source, dest):
        header = self.exactly(source, HEADER_BYTES)
        if not header:
            return False
        kind, length = struct.unpack("<HI", header[6:12])
        if kind == PAGES:
            self.go.wait()
        if kind == self.cut_before:
            return False
        self.mute |= kind == self.mute_from
        dest.sendall(header + self.exactly(source, length))
        if kind == MEMFD: # behind it comes a byte with the descriptor
            data, fds, _, _ = socket.recv_fds(source, 1, 1)
            socket.send_fds(dest, [data], fds)
            os.close(fds[0])
        return kind != self.cut_after

    def some(self, source, dest):
        data = source.recv(65536)
        self.first = self.first or data
        dest.sendall(data)
        return data

    @staticmethod
    def exactly(source, count):
        data = b""
        while len(data) < count:
            part = source.recv(count - len(data))
            if not part:
                return b""
            data += part
        return data

    def up(self):
        source, dest = self.ends
        try:
            while True:
                data = dest.recv(65536)
                if not data or self.mute:
                    break
                source.sendall(data)
        except OSError:
            pass
        self.cut()

    def cut(self):
        self.ended.set()
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
