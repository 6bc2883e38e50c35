import Glibc
import ModelFiles
import Synchronization

/// A small hub on this machine: it speaks the listing and download addresses, sends large files on to a store of its
/// own under another port, and misbehaves on command.
public final class LocalHub: Sendable {
  /// What goes wrong with one answer; a path's faults are used up in order.
  public enum Fault: Sendable {
    /// Nothing.
    case none
    /// The connection ends after so many bytes of the body.
    case cut(after: Int)
    /// A bit of the body differs.
    case corrupt
    /// The body lacks its last byte, and says so.
    case short
    /// More bytes than there are.
    case long
    /// A status without the file.
    case status(Int, headers: [String] = [])
    /// The whole file whatever the range.
    case ignoreRange
    /// Another part than the one asked for.
    case wrongRange
    /// An address elsewhere.
    case redirect(String)
    /// So many bytes of the body, then nothing for so many seconds.
    case stall(after: Int, seconds: Double)
  }

  /// What somebody asked for.
  public struct Request: Sendable {
    /// The port that was asked: the hub's or the store's.
    public var port: UInt16
    /// The path with its query.
    public var path: String
    /// The headers by their names in lower case.
    public var headers: [String: String]
  }

  /// The only commit.
  public static let commit = String(repeating: "c0ffee00", count: 5)
  private let hub: Listener
  private let store: Listener

  private struct State {
    var files: [String: [UInt8]] = [:]
    var faults: [String: [Fault]] = [:]
    var requests: [Request] = []
  }
  private let state = Mutex(State())

  /// Opens the two ports.
  public init() throws {
    hub = try Listener()
    store = try Listener()
    hub.serve { [unowned self] in answer($0) }
    store.serve { [unowned self] in answer($0) }
  }

  deinit {
    hub.stop()
    store.stop()
  }

  /// The address of the hub.
  public var endpoint: String { "http://127.0.0.1:\(hub.port)" }
  /// The address of the store, another host.
  public var storeEndpoint: String { "http://127.0.0.1:\(store.port)" }
  /// All that was asked for.
  public var requests: [Request] { state.withLock { $0.requests } }
  /// What the hub was asked for.
  public var requestsOfTheHub: [Request] { requests.filter { $0.port == hub.port } }
  /// What the store was asked for.
  public var requestsOfTheStore: [Request] { requests.filter { $0.port == store.port } }

  /// Puts a file into the one repository, `someone/model`; above 1,000 bytes it is a large file.
  public func add(_ path: String, _ bytes: [UInt8]) { state.withLock { $0.files[path] = bytes } }

  /// The next answers for a path (of the hub: `/api/…`, `/someone/…`; of the store: `/store/…`) go wrong so.
  public func misbehave(_ path: String, _ faults: Fault...) {
    state.withLock { $0.faults[path, default: []] += faults }
  }

  private func answer(_ request: Request) -> Listener.Answer {
    let path = String(request.path.prefix { $0 != "?" })
    let (fault, files) = state.withLock { state in
      state.requests.append(request)
      let fault = state.faults[path]?.first
      if fault != nil { state.faults[path]?.removeFirst() }
      return (fault, state.files)
    }
    switch fault {
    case .status(let status, let headers): return .init(status: status, headers: headers, body: Array("<html>".utf8))
    case .redirect(let address): return .init(status: 302, headers: ["Location: \(address)"])
    default: break
    }
    if path == "/api/models/someone/model/revision/main" || path == "/elsewhere/listing" {
      return .init(status: 200, body: listing(files))
    }
    let resolve = "/someone/model/resolve/\(Self.commit)/"
    if request.port == hub.port, path.hasPrefix(resolve), let bytes = files[String(path.dropFirst(resolve.count))] {
      if bytes.count > 1000 {
        let address = "http://127.0.0.1:\(store.port)/store/\(path.dropFirst(resolve.count))?signed=yes"
        return .init(status: 302, headers: ["Location: \(address)"])
      }
      return content(bytes, request, fault)
    }
    if request.port == store.port, path.hasPrefix("/store/"), let bytes = files[String(path.dropFirst(7))] {
      return content(bytes, request, fault)
    }
    return .init(status: 404, headers: ["X-Error-Code: RepoNotFound"])
  }

  private func content(_ bytes: [UInt8], _ request: Request, _ fault: Fault?) -> Listener.Answer {
    var bytes = bytes
    var range = 0..<bytes.count
    var headers: [String] = []
    var status = 200
    if let words = request.headers["range"], words.hasPrefix("bytes=") {
      let ends = words.dropFirst(6).split(separator: "-").compactMap { Int($0) }
      if ends.count == 2 { range = ends[0]..<min(bytes.count, ends[1] + 1) }
      status = 206
      headers = ["Content-Range: bytes \(range.lowerBound)-\(range.upperBound - 1)/\(bytes.count)"]
    }
    switch fault {
    case .ignoreRange: return .init(status: 200, body: bytes)
    case .wrongRange:
      headers = ["Content-Range: bytes \(range.lowerBound + 1)-\(range.upperBound)/\(bytes.count)"]
    case .corrupt: bytes[range.lowerBound + range.count / 2] ^= 4
    case .short: range.removeLast()
    case .long:
      return .init(status: status, headers: headers, body: Array(bytes[range]) + [1, 2, 3])
    case .cut(let count):
      return .init(status: status, headers: headers, body: Array(bytes[range]), cutAfter: count)
    case .stall(let count, let seconds):
      return .init(status: status, headers: headers, body: Array(bytes[range]), cutAfter: count, stall: seconds)
    default: break
    }
    return .init(status: status, headers: headers, body: Array(bytes[range]))
  }

  private func listing(_ files: [String: [UInt8]]) -> [UInt8] {
    let siblings = files.sorted { $0.key < $1.key }.map { path, bytes in
      let lfs = bytes.count > 1000 ? ",\"lfs\":{\"sha256\":\"\(sha256(bytes))\",\"size\":\(bytes.count)}" : ""
      return "{\"rfilename\":\"\(path)\",\"size\":\(bytes.count),\"blobId\":\"\(gitBlob(bytes))\"\(lfs)}"
    }
    return Array("{\"sha\":\"\(Self.commit)\",\"siblings\":[\(siblings.joined(separator: ","))]}".utf8)
  }
}

/// A socket that answers GET requests, a thread per connection.
final class Listener: Sendable {
  struct Answer: Sendable {
    var status: Int
    var headers: [String] = []
    var body: [UInt8] = []
    var cutAfter: Int?
    var stall = 0.0
  }

  let port: UInt16
  private let descriptor: Int32

  struct Refused: Error {}

  init() throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    self.descriptor = descriptor
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        [bind(descriptor, pointer, length), listen(descriptor, 64), getsockname(descriptor, pointer, &length)]
      }
    }
    if descriptor < 0 || result != [0, 0, 0] { throw Refused() }
    port = UInt16(bigEndian: address.sin_port)
  }

  func stop() {
    shutdown(descriptor, Int32(SHUT_RDWR))
    close(descriptor)
  }

  func serve(_ answer: @escaping @Sendable (LocalHub.Request) -> Answer) {
    let (descriptor, port) = (descriptor, port)
    _ = startThread {
      while true {
        let connection = accept(descriptor, nil, nil)
        if connection < 0 { return }
        _ = startThread {
          while let request = Self.read(connection, port) {
            if !Self.write(answer(request), to: connection) { break }
          }
          close(connection)
        }
      }
    }
  }

  private static func read(_ connection: Int32, _ port: UInt16) -> LocalHub.Request? {
    var bytes: [UInt8] = []
    var byte: UInt8 = 0
    while !bytes.suffix(4).elementsEqual([13, 10, 13, 10]) {
      guard bytes.count < 65536, recv(connection, &byte, 1, 0) == 1 else { return nil }
      bytes.append(byte)
    }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\r\n")
    let words = lines[0].split(separator: " ")
    guard words.count == 3 else { return nil }
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { continue }
      headers[line[..<colon].lowercased()] = String(line[line.index(colon, offsetBy: 2)...])
    }
    return LocalHub.Request(port: port, path: String(words[1]), headers: headers)
  }

  /// Whether the connection may go on.
  private static func write(_ answer: Answer, to connection: Int32) -> Bool {
    let head = ["HTTP/1.1 \(answer.status) X", "Content-Length: \(answer.body.count)"] + answer.headers + ["", ""]
    let bytes = Array(head.joined(separator: "\r\n").utf8) + answer.body.prefix(answer.cutAfter ?? answer.body.count)
    var sent = 0
    while sent < bytes.count {
      let count = bytes.withUnsafeBytes {
        send(connection, $0.baseAddress.map { $0 + sent }, bytes.count - sent, Int32(MSG_NOSIGNAL))
      }
      if count <= 0 { return false }
      sent += count
    }
    if answer.stall > 0 { usleep(UInt32(answer.stall * 1e6)) }
    return answer.cutAfter == nil
  }
}
