//! Against the h2 crate's HPACK, by a connection in memory whose server side is written out here.

use ::http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// A server that answers each request with random fields, and tells them and what it has read.
struct Server {
    io: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Server {
    async fn frame(&mut self) -> Frame {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.unwrap();
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.io.read_exact(&mut payload).await.unwrap();
        Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        out.extend_from_slice(&[kind, flags]);
        out.extend_from_slice(&stream.to_be_bytes());
        out.extend_from_slice(payload);
        self.io.write_all(&out).await.unwrap();
    }

    /// Takes what the client says of its decoder, and acknowledges it.
    async fn settings(&mut self, frame: &Frame) {
        if frame.flags & ACK == 0 {
            for setting in frame.payload.chunks(6) {
                if setting[..2] == [0, 1] {
                    self.encoder.set_max_table(u32::from_be_bytes(setting[2..].try_into().unwrap()) as usize);
                }
            }
            self.send(SETTINGS, ACK, 0, &[]).await;
        }
    }

    /// The fields of the next request.
    async fn request(&mut self) -> (u32, Vec<Pair>) {
        let mut block = Vec::new();
        loop {
            let frame = self.frame().await;
            match frame.kind {
                SETTINGS => self.settings(&frame).await,
                HEADERS | CONTINUATION => {
                    block.extend_from_slice(&frame.payload);
                    if frame.flags & END_HEADERS != 0 {
                        return (frame.stream, read(&mut self.decoder, &block).unwrap());
                    }
                }
                _ => {}
            }
        }
    }

    async fn answer(&mut self, stream: u32, status: u16, fields: &[Pair]) {
        let mut block = Vec::new();
        self.encoder.begin(&mut block);
        self.encoder.status(status, &mut block);
        for (name, value) in fields {
            self.encoder.field(Known::of(name), name, value, &mut block);
        }
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block).await;
    }
}

/// Serves `count` requests; each of them tells its fields in one of its own that has them all.
async fn serve(io: DuplexStream, announced: u32, count: usize, mut rng: fastrand::Rng) {
    let mut server = Server { io, encoder: Encoder::new(), decoder: Decoder::new(announced as usize) };
    server.io.read_exact(&mut [0; 24]).await.unwrap();
    let size = [&[0, 1][..], &announced.to_be_bytes()].concat();
    server.send(SETTINGS, 0, 0, &size).await;
    for _ in 0..count {
        let (stream, fields) = server.request().await;
        let [said, rest @ ..] = &fields[4..] else { panic!("no fields") };
        assert_eq!(said.0, b"x-said");
        assert_eq!(said.1, text(rest));
        let mut fields = fields_of(&mut rng);
        fields.push((b"x-said".to_vec(), text(&sorted(&fields))));
        server.answer(stream, rng.u16(200..600), &fields).await;
    }
}

/// All fields as one value.
fn text(fields: &[Pair]) -> Vec<u8> {
    fields.iter().flat_map(|(n, v)| [n, &b"="[..], v, b";"].concat()).collect()
}

/// As a map tells them: those of one name together, the names in the order of the alphabet.
fn sorted(fields: &[Pair]) -> Vec<Pair> {
    let mut sorted: Vec<Pair> = fields.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    sorted
}

fn fields_of(rng: &mut fastrand::Rng) -> Vec<Pair> {
    let field = |rng: &mut fastrand::Rng| {
        let name =
            *rng.choice(&["server", "date", "x-a", "X-Odd-Name", "set-cookie", "etag", "accept", "via"]).unwrap();
        let value = match rng.u8(0..6) {
            0 => (0..rng.usize(1..300)).map(|_| rng.u8(b'!'..=b'~')).collect(),
            1 => (0..rng.usize(1..50)).map(|_| rng.u8(0x80..)).collect(),
            n => b"something that comes again"[..usize::from(n) * 3].trim_ascii().to_vec(),
        };
        (name.as_bytes().to_vec(), value)
    };
    (0..rng.usize(0..7)).map(|_| field(rng)).collect()
}

fn map_of(fields: &[Pair]) -> HeaderMap {
    let pair = |(n, v): &Pair| (HeaderName::from_bytes(n).unwrap(), HeaderValue::from_bytes(v).unwrap());
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(pair) {
        map.append(name, value);
    }
    map
}

async fn connection(seed: u64, ours: u32, theirs: u32) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (near, far) = tokio::io::duplex(1 << 20);
    let count = rng.usize(1..60);
    let server = tokio::spawn(serve(far, ours, count, rng.fork()));
    let mut builder = h2::client::Builder::new();
    let (client, connection) = builder.header_table_size(theirs).handshake::<_, bytes::Bytes>(near).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for _ in 0..count {
        let mut request = Request::get("http://orders.shop/a/path?with=query").body(()).unwrap();
        let map = map_of(&fields_of(&mut rng));
        let said: Vec<Pair> = map.iter().map(|(n, v)| (n.as_str().into(), v.as_bytes().into())).collect();
        request.headers_mut().insert("x-said", HeaderValue::from_bytes(&text(&said)).unwrap());
        request.headers_mut().extend(map);
        let response = client.send_request(request, true).unwrap().0.await.unwrap();
        let got = response.headers().iter().filter(|(n, _)| *n != "x-said");
        let got: Vec<Pair> = got.map(|(n, v)| (n.as_str().into(), v.as_bytes().into())).collect();
        assert_eq!(text(&sorted(&got)), response.headers()["x-said"].as_bytes(), "seed {seed}");
    }
    server.await.unwrap();
    driver.abort();
}

#[tokio::test]
async fn the_h2_crate_and_we_understand_each_other() {
    for seed in 0..60 {
        for (ours, theirs) in [(4096, 4096), (0, 4096), (4096, 0), (65536, 300), (300, 65536)] {
            connection(seed, ours, theirs).await;
        }
    }
}
