//! Foreign programs in front of and behind the proxy: WebSocket libraries, nginx, Node, httpx, load tools.

use std::{fs, process::Command};

use outrigger_tests::{LONG, Origin, Proxy, Wire, config, eventually, peers, ports::free_port};
use peers::Server;

#[test]
fn websockets_of_python_on_both_sides() {
    let Some(python) = peers::python("websockets_of_python_on_both_sides") else { return };
    let server = Server::start(&python, "ws_server.py", &[]);
    let proxy = Proxy::start(&config::sidecar(server.address()));
    let text = peers::check(&python, "ws_client.py", &[&proxy.inbound().to_string()]);
    assert_eq!(text.trim_end(), "1000 ws-1");
    let entry = proxy.wait_log("the upgraded request", |entry| entry["status"] == 101);
    assert_eq!(entry["path"], "/chat");
}

#[test]
fn a_websocket_of_node_to_one_of_python() {
    let scenario = "a_websocket_of_node_to_one_of_python";
    let (Some(node), Some(python)) = (peers::node(scenario), peers::python(scenario)) else { return };
    let server = Server::start(&python, "ws_server.py", &[]);
    let proxy = Proxy::start(&config::sidecar(server.address()));
    assert_eq!(peers::check(&node, "ws.js", &[&proxy.inbound().to_string()]).trim_end(), "from node");
}

#[test]
fn a_node_server_that_closes_idle_connections() {
    let Some(node) = peers::node("a_node_server_that_closes_idle_connections") else { return };
    let server = Server::start(&node, "node_server.js", &[]);
    let proxy = Proxy::start(&config::sidecar(server.address()));
    let mut client = Wire::connect(proxy.inbound());
    for i in 0..40 {
        let reply = client.exchange(&format!("POST /{i} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"));
        assert_eq!((reply.status, reply.text()), (200, format!("POST /{i} 3")));
        // About the server's idle time: some of the connections die under the proxy's hand.
        std::thread::park_timeout(std::time::Duration::from_millis(55 + i % 10));
    }
}

#[test]
fn a_node_server_of_http_2() {
    let Some(node) = peers::node("a_node_server_of_http_2") else { return };
    let server = Server::start(&node, "node_h2_server.js", &[]);
    let proxy = Proxy::start(&config::sidecar_protocol(server.address(), "http2"));
    let mut client = Wire::connect(proxy.inbound());
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: 4\r\n\r\necho";
    let reply = client.exchange(request);
    assert_eq!((reply.status, reply.text().as_str(), reply.header("x-node")), (200, "echo", Some("h2")));
    assert_eq!(reply.trailers, [("x-end".to_owned(), "yes".to_owned())]);
}

#[test]
fn httpx_in_both_versions() {
    let Some(python) = peers::python("httpx_in_both_versions") else { return };
    let origin = Origin::start(|r| outrigger_tests::Response::text(r.body.len().to_string()));
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    let text = peers::check(&python, "httpx_client.py", &[&proxy.inbound().to_string()]);
    assert_eq!(text.trim_end(), "HTTP/1.1 200 100000\nHTTP/2 200 100000");
}

#[test]
fn nginx_behind_and_curl_in_front() {
    let scenario = "nginx_behind_and_curl_in_front";
    let (Some(nginx), Some(curl)) = (peers::program(scenario, "nginx"), peers::program(scenario, "curl")) else {
        return;
    };
    let dir = tempfile::TempDir::new().expect("a temporary directory");
    let port = free_port();
    let root = dir.path().display();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log {root}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n  \
         keepalive_requests 7;\n  server {{ listen 127.0.0.1:{port}; root {root}; location /back {{ return 200 \"$request_method $http_x_request_id\"; }} }}\n}}\n"
    );
    fs::write(dir.path().join("nginx.conf"), text).expect("writable");
    fs::write(dir.path().join("big"), vec![b'n'; 5_000_000]).expect("writable");
    let mut child = Command::new(nginx).arg("-c").arg(dir.path().join("nginx.conf")).spawn().expect("nginx starts");
    let address = ([127, 0, 0, 1], port).into();
    eventually("nginx listens", LONG, || std::net::TcpStream::connect(address).ok());
    let proxy = Proxy::start(&config::sidecar(address));
    let ask = |args: &[&str], path: &str| {
        let url = format!("http://{}{path}", proxy.inbound());
        let output =
            Command::new(&curl).args(["-sS", "--noproxy", "*"]).args(args).arg(&url).output().expect("curl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(ask(&["-H", "x-request-id: n-1"], "/back"), b"GET n-1");
    assert_eq!(ask(&["--http2-prior-knowledge", "-H", "x-request-id: n-2"], "/back"), b"GET n-2");
    assert_eq!(ask(&["-0", "-H", "x-request-id: n-3"], "/back"), b"GET n-3");
    assert_eq!(ask(&[], "/big").len(), 5_000_000);
    assert_eq!(ask(&["-r", "10-19"], "/big"), b"nnnnnnnnnn");
    assert_eq!(ask(&["-o", "/dev/null", "-w", "%{http_code}", "-I"], "/big"), b"200");
    // More requests than nginx takes on one connection.
    let mut client = Wire::connect(proxy.inbound());
    assert!((0..100).all(|_| client.get("/back").status == 200));
    child.kill().ok();
    child.wait().ok();
}

#[test]
fn h2load_counts_no_failure() {
    let Some(h2load) = peers::program("h2load_counts_no_failure", "h2load") else { return };
    let origin = Origin::hello();
    let proxy = Proxy::start(&config::sidecar(origin.address()));
    for args in [&["--h1"][..], &["-m", "10"]] {
        let output = Command::new(&h2load)
            .args(["-n", "2000", "-c", "4"])
            .args(args)
            .arg(format!("http://{}/", proxy.inbound()))
            .output()
            .expect("h2load runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("2000 succeeded, 0 failed"), "{text}");
    }
}
