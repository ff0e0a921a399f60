//! The image as containers: without root, on a root file system that cannot be written, and three of them as one grid.

use super::engine::{Engine, answer};
use super::{BYTES_MAX, Program, context};
use crate::command::{output, root, run, shown, works};
use crate::failure::Failure;
use crate::guests;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const USER: &str = "65532:65532";
const NETWORK: &str = "wattle-check";
const PROBE: &str = "wattle-check-probe";
const NODES: [&str; 3] = ["wattle-check-1", "wattle-check-2", "wattle-check-3"];
const GUEST: &str = "example-counter";
const MODULE: &str = "/module.wasm";
/// Of each container, and what a node makes of it.
const MEMORY: &str = "1g";
const MEMORY_FOR_ENTRIES: &str = "716.8 MiB";
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

pub(super) fn run_all(engine: &Engine, image: &str, kind: Program) -> Result<(), Failure> {
    check_form(engine, image, kind)?;
    build_probe(engine)?;
    guests::build_rust(&[GUEST.to_owned()])?;
    let grid = Grid::start(engine, image)?;
    let result = grid.check();
    if result.is_err() {
        grid.show_logs();
    }
    result
}

/// Who it runs as, and how large it is.
fn check_form(engine: &Engine, image: &str, kind: Program) -> Result<(), Failure> {
    let format = "{{.Config.User}} {{.Size}} {{.Config.Entrypoint}}";
    let form = answer(&mut engine.docker(&["image", "inspect", "--format", format, image]))?;
    println!("{image}: user, bytes and entry point are {form}");
    if is_as_it_should_be(&form, kind) {
        return Ok(());
    }
    Err(Failure::Unexpected { command: format!("docker image inspect {image}"), printed: form })
}

fn is_as_it_should_be(form: &str, kind: Program) -> bool {
    let mut words = form.split(' ');
    let user = words.next() == Some(USER);
    let bytes: Option<u64> = words.next().and_then(|bytes| bytes.parse().ok());
    let fits = bytes.is_some_and(|bytes| bytes < BYTES_MAX);
    // What the tests have built has names and lines in it.
    user && (fits || kind == Program::Quick) && words.next() == Some("[/usr/local/bin/wattle]")
}

/// An image of this very program, for requests from within the network.
fn build_probe(engine: &Engine) -> Result<(), Failure> {
    let this = std::env::current_exe().map_err(Failure::file("this program"))?;
    let folder = context::lay_out_with_libraries("probe", &this, "probe")?;
    let file = folder.join("Dockerfile");
    let text =
        "FROM scratch\nCOPY root/ /\nUSER 65532:65532\nENTRYPOINT [\"/usr/local/bin/probe\", \"probe\"]\n";
    std::fs::write(&file, text).map_err(Failure::file(&file))?;
    run(engine.docker(&["build", "--quiet", "--tag", PROBE]).arg(folder))
}

/// Three nodes in a network of their own, until this goes out of scope.
struct Grid<'a> {
    engine: &'a Engine,
}

impl<'a> Grid<'a> {
    fn start(engine: &'a Engine, image: &str) -> Result<Self, Failure> {
        let grid = Self { engine };
        // Of a run that was ended.
        grid.remove();
        run(&mut engine.docker(&["network", "create", "--internal", NETWORK]))?;
        let secret = root().join("target/container/secret");
        std::fs::write(&secret, "a secret of sixteen bytes or more").map_err(Failure::file(&secret))?;
        for name in NODES {
            grid.start_node(name, image, &secret)?;
        }
        Ok(grid)
    }

    /// With no more rights than a pod of the chart has. All answer to one name: that is how they find one another.
    fn start_node(&self, name: &str, image: &str, secret: &Path) -> Result<(), Failure> {
        let mut node = self.engine.docker(&["run", "--detach", "--name", name, "--hostname", name]);
        node.args(["--network", NETWORK, "--network-alias", "nodes", "--memory", MEMORY]);
        node.args([
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
        ]);
        let module = root().join(guests::module(GUEST));
        node.args(["--volume", &format!("{}:{MODULE}:ro", module.display())]);
        node.args(["--volume", &format!("{}:/secret:ro", secret.display())]);
        node.args([image, "serve", "--listen", "0.0.0.0:7117", "--peer-listen", "0.0.0.0:7118"]);
        node.args(["--http-listen", "0.0.0.0:7119", "--insecure", "--grid-secret-file", "/secret"]);
        node.args(["--discovery", "dns", "--service", "nodes:7118", "--bootstrap-expect", "3"]);
        run(&mut node)
    }

    fn check(&self) -> Result<(), Failure> {
        for node in NODES {
            self.wait_for(node, "/livez", "200 ")?;
            self.wait_for(node, "/readyz", "200 ")?;
            self.wait_for(node, "/nothing", "404 ")?;
        }
        let [first, second, third] = NODES;
        self.expect(first, &["map", "create", "counts"], "")?;
        self.expect(first, &["map", "put", "counts", "a", "41"], "")?;
        self.expect(second, &["map", "get", "counts", "a"], "41")?;
        // The compiler is a process of its own, of the same program.
        self.expect(second, &["function", "upload", "add", MODULE, "--export", "add"], "")?;
        self.expect(third, &["invoke", "add", "--map", "counts", "--key", "a"], "42")?;
        self.check_memory(first)?;
        // A root that can be written, or more rights, would be somebody's mistake in this check.
        let rights = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}";
        let found = answer(&mut self.engine.docker(&["inspect", "--format", rights, first]))?;
        if found != "true [ALL]" {
            return Err(Failure::Unexpected { command: format!("docker inspect {first}"), printed: found });
        }
        // It hands over what it holds, although nothing but itself runs there to pass on the signal.
        run(&mut self.engine.docker(&["stop", "-t", "60", first]))?;
        let code = answer(&mut self.engine.docker(&["inspect", "--format", "{{.State.ExitCode}}", first]))?;
        if code != "0" {
            return Err(Failure::Unexpected { command: format!("docker stop {first}"), printed: code });
        }
        self.expect(third, &["map", "get", "counts", "a"], "42")
    }

    /// A node that does not see the limit of its container takes the machine's memory for its own.
    fn check_memory(&self, node: &str) -> Result<(), Failure> {
        let mut members = self.wattle(node, &["grid", "members"]);
        let printed = output(&mut members)?;
        if printed.matches(MEMORY_FOR_ENTRIES).count() == NODES.len() {
            return Ok(());
        }
        Err(Failure::Unexpected { command: shown(&members), printed })
    }

    /// Asks until the answer begins so.
    fn wait_for(&self, node: &str, path: &str, expected: &str) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let mut probe = self.engine.docker(&["run", "--rm", "--network", NETWORK, PROBE]);
            let said = probe.arg(format!("{node}:7119")).arg(path).output();
            let said = said.map_err(|source| Failure::CannotStart { command: PROBE.to_owned(), source })?;
            let printed = String::from_utf8_lossy(&said.stdout).into_owned();
            if printed.starts_with(expected) {
                println!("{node}{path}: {}", printed.trim_end());
                return Ok(());
            }
            if start.elapsed() > DEADLINE {
                let errors = String::from_utf8_lossy(&said.stderr);
                let printed = format!("{printed}{errors}");
                return Err(Failure::Unexpected { command: format!("GET {path} of {node}"), printed });
            }
            thread::sleep(POLL);
        }
    }

    /// What the client in a container prints must begin so.
    fn expect(&self, node: &str, arguments: &[&str], expected: &str) -> Result<(), Failure> {
        let mut client = self.wattle(node, arguments);
        println!("$ {}", shown(&client));
        let printed = output(&mut client)?;
        if printed.starts_with(expected) {
            return Ok(());
        }
        Err(Failure::Unexpected { command: shown(&client), printed })
    }

    fn wattle(&self, node: &str, arguments: &[&str]) -> Command {
        let mut client = self.engine.docker(&["exec", node, "wattle"]);
        client.args(arguments);
        client
    }

    fn show_logs(&self) {
        for node in NODES {
            if run(&mut self.engine.docker(&["logs", "--tail", "40", node])).is_err() {
                println!("{node} has no log");
            }
        }
    }

    fn remove(&self) {
        for node in NODES {
            works(&mut self.engine.docker(&["rm", "--force", "--volumes", node]));
        }
        works(&mut self.engine.docker(&["network", "rm", NETWORK]));
    }
}

impl Drop for Grid<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: &str, kind: Program, expected: bool) {
        assert_eq!(is_as_it_should_be(form, kind), expected, "{form}");
    }

    #[test]
    fn an_image_of_root_or_of_too_many_bytes_is_refused() {
        check("65532:65532 59999999 [/usr/local/bin/wattle]", Program::Static, true);
        check("65532:65532 60000000 [/usr/local/bin/wattle]", Program::Static, false);
        check("65532:65532 150000000 [/usr/local/bin/wattle]", Program::Quick, true);
        check(" 1 [/usr/local/bin/wattle]", Program::Quick, false);
        check("root 1 [/usr/local/bin/wattle]", Program::Static, false);
        check("65532:65532 1 [/bin/sh -c wattle]", Program::Static, false);
    }
}
