"""A certificate authority of a test's own, by openssl's command line."""
import pathlib
import subprocess


class Authority:
    """`ca` is the file that clients trust; server() and client() give (certificate, key)."""

    def __init__(self, folder, name="test"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self.ca, self.key = self.folder / f"{name}.ca.pem", self.folder / f"{name}.ca.key"
        self.made = 0
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-days", "30", "-subj", f"/CN={name} authority", "-keyout", self.key, "-out", self.ca)

    def openssl(self, *args):
        done = subprocess.run(["openssl", *map(str, args)], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def issue(self, subject, extensions, days):
        self.made += 1
        key, certificate = self.folder / f"{self.made}.key", self.folder / f"{self.made}.pem"
        request, more = self.folder / f"{self.made}.csr", self.folder / f"{self.made}.ext"
        more.write_text(extensions)
        self.openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-subj", f"/CN={subject}", "-keyout", key, "-out", request)
        self.openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.key, "-CAcreateserial",
                     "-days", days, "-extfile", more, "-out", certificate)
        key.chmod(0o644)  # who runs the server is not always who runs the test
        return certificate, key

    def server(self, *names, days=30):
        """`names`: as in subjectAltName, "DNS:redis.internal" or "IP:127.0.0.1". Expired: `days` below 0."""
        return self.issue("server", f"subjectAltName={','.join(names)}\nextendedKeyUsage=serverAuth\n", days)

    def client(self):
        return self.issue("edge", "extendedKeyUsage=clientAuth\n", 30)
