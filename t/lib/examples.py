"""A configuration of conf-examples/ or of the README, run where a test may: ports and paths are moved, nothing else is."""
import re

from lib.edge import MODULE, ROOT

EXAMPLES = ROOT / "conf-examples"

PROLOGUE = """
load_module {module};
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
"""
TEMPORARY = "".join(f"    {name}_temp_path {{folder}}/tmp_{name};\n"
                    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def move(text, moves):
    for place, moved in moves.items():
        text = text.replace(place, str(moved))
    return text


def directives(text):
    return re.sub(r"#.*", "", text)


def start(edge, conf, moves):
    """An edge with this nginx.conf; what that names is moved into the edge's folder and onto its ports. `moves`: further
    ones."""
    conf = move(conf, {"load_module modules/ngx_http_experiment_module.so;": PROLOGUE,
                       "http {\n": "http {\n    access_log off;\n" + TEMPORARY,
                       "/var/lib/nginx/experiment": "{folder}/state",
                       "/var/lib/nginx/pages": "{folder}/cache",
                       "/var/log/nginx/": "{folder}/",
                       "/etc/nginx/experiment.kill": edge.kill_file,
                       "listen 80;": f"listen 127.0.0.1:{edge.port};",
                       "127.0.0.1:9145": f"127.0.0.1:{edge.port2}",
                       **moves,
                       "{module}": MODULE, "{folder}": edge.folder})
    left = directives(conf).replace(str(edge.folder), "").replace(str(MODULE), "")
    assert not re.search(r"[\s=](/(var|etc|run|usr)/|10\.)", left), left
    (edge.folder / "nginx.conf").write_text(conf)
    edge.start()
    return edge
