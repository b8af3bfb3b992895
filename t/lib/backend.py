"""A real HTTP backend that says what it was asked: its body is the JSON of the request's headers, its headers are what a test wants."""
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Backend:
    """`answer(path, headers)` may be replaced: it returns status, a list of headers and a body. `requests` keeps what came in."""

    def __init__(self):
        self.requests = []
        self.answer = self.echo
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes: else each answer waits 40 ms

            def respond(self):
                length = int(self.headers.get("Content-Length") or 0)
                if length:
                    self.rfile.read(length)
                backend.requests.append((self.path, self.headers))
                status, headers, body = backend.answer(self.path, self.headers)
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                if status not in (204, 304):
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD" and status not in (204, 304):
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = respond

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def echo(path, headers):
        body = json.dumps({"path": path, "assignments": headers.get("Experiment-Assignments"),
                           "cohort": headers.get("Experiment-Cohort"),
                           "headers": [[k, v] for k, v in headers.items()]})
        return 200, [("Content-Type", "text/html")], body.encode()

    def reset(self):
        self.requests.clear()
        self.answer = self.echo

    def close(self):
        self.server.shutdown()
        self.server.server_close()
