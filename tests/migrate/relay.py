"""Between two aeries: forwards a migration's messages, can hold pages back, and can break off after a message."""
import os, socket, struct, threading

PAGES, RUN = 7, 12
HEADER_BYTES = 24


class Relay:
    def __init__(self, path, target, hold=False, cut_after=None):
        """cut_after: the type of a message from the source, behind which the connection ends."""
        self.target, self.cut_after = target, cut_after
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
            while self.message(source, dest):
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
        dest.sendall(header + self.exactly(source, length))
        return kind != self.cut_after

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
                if not data:
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
