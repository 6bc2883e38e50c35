import Foundation
import ModelFiles
import Synchronization
import TestSupport
import Testing

@testable import Hub

@Suite("Pulling from the hub")
struct PullTests {
  private let name: RepositoryName
  private let config = Array("{\"model_type\": \"llama\"}".utf8)
  private let weights = noise(95_000)

  init() throws { name = try #require(RepositoryName("someone/model")) }

  private func server() throws -> LocalHub {
    let server = try LocalHub()
    server.add("config.json", config)
    server.add("model.safetensors", weights)
    server.add("empty.txt", [])
    server.add("pytorch_model.bin", noise(2_000, seed: 2))
    return server
  }

  /// A file's bytes as their digest, which a failed expectation can print.
  private func content(_ path: String) -> String? {
    FileManager.default.contents(atPath: path).map { sha256(Array($0)) }
  }

  private func failure(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch { return "\(error)" }
  }

  /// What a failed run may leave: nothing under a final name.
  private func hasNoBlob(named digest: String, in cache: String) -> Bool {
    !FileManager.default.fileExists(atPath: "\(cache)/models--someone--model/blobs/\(digest)")
  }

  @Test("files arrive whole, in Hugging Face's layout, and a second pull fetches nothing")
  func pullsTwice() throws {
    let server = try server()
    try withCache { cache in
      let hub = client(server, cache: cache)
      let total = Mutex(0)
      let folder = try hub.pull(name, onProgress: { progress in total.withLock { $0 = progress.bytesTotal } })
      #expect(folder == "\(cache)/models--someone--model/snapshots/\(LocalHub.commit)")
      #expect(content(folder + "/model.safetensors") == sha256(weights))
      #expect(content(folder + "/config.json") == sha256(config))
      #expect(content(folder + "/empty.txt") == sha256([]))
      #expect(
        content(folder + "/pytorch_model.bin") == nil, "safetensors are there; the same weights again are not wanted")
      #expect(total.withLock { $0 } == config.count + weights.count)
      let files = FileManager.default
      #expect(try files.destinationOfSymbolicLink(atPath: folder + "/config.json") == "../../blobs/\(gitBlob(config))")
      #expect(content("\(cache)/models--someone--model/refs/main") == sha256(Array(LocalHub.commit.utf8)))
      #expect(
        Set(try files.contentsOfDirectory(atPath: "\(cache)/models--someone--model/blobs"))
          == [sha256(weights), gitBlob(config), gitBlob([])])
      #expect(server.requests.filter { $0.path.hasPrefix("/store/model.safetensors") }.count == 10)

      let before = server.requests.count
      let again = try hub.pull(name)
      #expect(again == folder)
      #expect(server.requests.count == before + 1, "only the listing is asked for again")
      var offline = hub.environment
      offline.isOffline = true
      #expect(try HuggingFaceHub(environment: offline).pull(name) == folder)
      let file = try #require(RepositoryName("someone/model/config.json"))
      #expect(
        try HuggingFaceHub(environment: offline).pull(file) == folder
          + "/config.json")
    }
  }

  @Test("the token goes to the hub and to nobody else")
  func keepsTheToken() throws {
    let server = try server()
    try withCache { cache in
      _ = try client(server, cache: cache, token: "hf_secret").pull(name)
      let ours = server.requestsOfTheHub
      let theirs = server.requestsOfTheStore
      #expect(!ours.isEmpty && ours.allSatisfy { $0.headers["authorization"] == "Bearer hf_secret" })
      #expect(!theirs.isEmpty && theirs.allSatisfy { $0.headers["authorization"] == nil })
    }
  }

  @Test("a listing that lies on another host is followed without the token")
  func keepsTheTokenFromAnotherHub() throws {
    let server = try server()
    let elsewhere = "/elsewhere/listing"
    server.misbehave("/api/models/someone/model/revision/main", .redirect(server.storeEndpoint + elsewhere))
    try withCache { cache in
      _ = try client(server, cache: cache, token: "hf_secret").pull(name)
      let asked = server.requestsOfTheStore.filter { $0.path.hasPrefix(elsewhere) }
      #expect(asked.count == 1 && asked.allSatisfy { $0.headers["authorization"] == nil })
    }
  }

  @Test("addresses that point at each other are left")
  func leavesCircles() throws {
    let server = try server()
    let (here, there) = ("/api/models/someone/model/revision/main", server.storeEndpoint + "/there")
    for _ in 0..<20 {
      server.misbehave(here, .redirect(there))
      server.misbehave("/there", .redirect(server.endpoint + here))
    }
    try withCache { cache in
      #expect(failure { _ = try client(server, cache: cache).pull(name) }.hasSuffix(": redirects in a circle"))
      #expect(server.requests.count == 10)
    }
  }

  @Test("a server that falls silent is left, and asked again")
  func doesNotWaitForEver() throws {
    let server = try server()
    server.misbehave("/store/model.safetensors", .stall(after: 4_000, seconds: 4))
    try withCache { cache in
      let folder = try client(server, cache: cache) {
        $0.stallSeconds = 1
        $0.connections = 1
      }.pull(name)
      #expect(content(folder + "/model.safetensors") == sha256(weights))
      #expect(server.requests.contains { $0.headers["range"] == "bytes=4000-9999" }, "what came is not asked for again")
    }
  }

  @Test("what a user stops goes on where it ended")
  func stops() throws {
    let server = try server()
    try withCache { cache in
      let enough = Atomic(false)
      let hub = client(server, cache: cache) { $0.connections = 1 }
      server.misbehave("/store/model.safetensors", .none, .none, .stall(after: 100, seconds: 1))
      let message = failure {
        _ = try hub.pull(
          name, isCancelled: { enough.load(ordering: .relaxed) },
          onProgress: { if $0.bytesDone >= 20_000 { enough.store(true, ordering: .relaxed) } })
      }
      #expect(message == "stopped; the same command goes on where this one ended")
      #expect(hasNoBlob(named: sha256(weights), in: cache))
      let before = server.requestsOfTheStore.count
      var first: Int?
      let folder = try hub.pull(name, onProgress: { first = first ?? $0.bytesDone })
      #expect(content(folder + "/model.safetensors") == sha256(weights))
      #expect(try #require(first) >= 20_000 && server.requestsOfTheStore.count - before <= 8)
    }
  }

  @Test("cuts, errors and a busy server cost time, not the download")
  func survives() throws {
    let server = try server()
    server.misbehave("/api/models/someone/model/revision/main", .status(503), .status(429, headers: ["Retry-After: 0"]))
    server.misbehave(
      "/store/model.safetensors", .cut(after: 3_000), .status(500), .cut(after: 0), .status(403), .cut(after: 9_999),
      .short)
    server.misbehave("/someone/model/resolve/\(LocalHub.commit)/config.json", .cut(after: 5), .status(502))
    try withCache { cache in
      let folder = try client(server, cache: cache) { $0.attempts = 5 }.pull(name)
      #expect(content(folder + "/model.safetensors") == sha256(weights))
      #expect(content(folder + "/config.json") == sha256(config))
    }
  }

  @Test("a server that knows no ranges sends the file once, and once more after a cut")
  func withoutRanges() throws {
    let server = try server()
    for _ in 0..<40 { server.misbehave("/store/model.safetensors", .ignoreRange) }
    try withCache { cache in
      let folder = try client(server, cache: cache).pull(name)
      #expect(content(folder + "/model.safetensors") == sha256(weights))
    }
  }

  @Test("bytes that hash to something else are not kept", arguments: ["model.safetensors", "config.json"])
  func refusesWrongBytes(_ file: String) throws {
    let server = try server()
    let path = file == "config.json" ? "/someone/model/resolve/\(LocalHub.commit)/config.json" : "/store/\(file)"
    server.misbehave(path, .corrupt)
    try withCache { cache in
      let hub = client(server, cache: cache)
      let message = failure { _ = try hub.pull(name) }
      #expect(message.hasPrefix("someone/model/\(file): what arrived does not have the hash that the hub names"))
      #expect(!FileManager.default.fileExists(atPath: "\(cache)/models--someone--model/snapshots/\(LocalHub.commit)"))
      // The server has recovered.
      let again = try hub.pull(name)
      #expect(content(again + "/\(file)") == sha256(file == "config.json" ? config : weights))
    }
  }

  @Test("more bytes than the listing names, and other bytes than asked for, end it with one line")
  func refusesWrongLengths() throws {
    for (fault, words) in [
      (LocalHub.Fault.long, "the server sends more bytes than asked for"),
      (.wrongRange, "the server sends from byte"),
    ] {
      let server = try server()
      for _ in 0..<20 { server.misbehave("/store/model.safetensors", fault) }
      try withCache { cache in
        let message = failure { _ = try client(server, cache: cache).pull(name) }
        #expect(message.contains(words) && message.hasPrefix("someone/model/model.safetensors: "), "\(message)")
        #expect(hasNoBlob(named: sha256(weights), in: cache))
      }
    }
  }

  @Test("what a broken run fetched is not fetched again")
  func resumes() throws {
    let server = try server()
    try withCache { cache in
      // One connection, so that parts come in order; the server fails after the fourth.
      server.misbehave("/store/model.safetensors", .none, .none, .none, .none, .status(500), .status(500), .status(500))
      let message = failure { _ = try client(server, cache: cache) { $0.connections = 1 }.pull(name) }
      #expect(message.contains("run the same command again to go on"), "\(message)")
      #expect(hasNoBlob(named: sha256(weights), in: cache))
      let before = server.requests.filter { $0.path.hasPrefix("/store/model") }.count
      let folder = try client(server, cache: cache).pull(name)
      #expect(content(folder + "/model.safetensors") == sha256(weights))
      let after = server.requests.filter { $0.path.hasPrefix("/store/model") }.count - before
      #expect(after == 6)
    }
  }

  @Test("parts on the disk that were damaged meanwhile are found out")
  func distrustsTheDisk() throws {
    let server = try server()
    try withCache { cache in
      let blob = "\(cache)/models--someone--model/blobs/\(sha256(weights))"
      try FileManager.default.createDirectory(
        atPath: "\(cache)/models--someone--model/blobs", withIntermediateDirectories: true)
      var damaged = weights
      damaged[7] ^= 1
      try Data(damaged).write(to: URL(fileURLWithPath: blob + ".swiftlet.incomplete"))
      let journal = "swiftlet-parts 1 \(weights.count) 10000\n1111111110"
      try Data(journal.utf8).write(to: URL(fileURLWithPath: blob + ".swiftlet.parts"))
      let hub = client(server, cache: cache)
      #expect(failure { _ = try hub.pull(name) }.contains("does not have the hash"))
      let again = try hub.pull(name)
      #expect(content(again + "/model.safetensors") == sha256(weights))
    }
  }

  @Test("what the hub refuses is said in words", arguments: [nil, "hf_secret"])
  func explainsRefusals(_ token: String?) throws {
    let server = try server()
    let api = "/api/models/someone/model/revision/main"
    try withCache { cache in
      let hub = client(server, cache: cache, token: token)
      server.misbehave(api, .status(403, headers: ["X-Error-Code: GatedRepo"]))
      let gated = failure { _ = try hub.pull(name) }
      #expect(gated.contains(token == nil ? "then set HF_TOKEN" : "has not been granted this model"))
      server.misbehave(api, .status(401, headers: ["X-Error-Code: RepoNotFound"]))
      let unknown = failure { _ = try hub.pull(name) }
      #expect(unknown.contains(token == nil ? "no such public model" : "refuses your HF_TOKEN"))
      server.misbehave(api, .status(404, headers: ["X-Error-Code: RevisionNotFound"]))
      #expect(failure { _ = try hub.pull(name) } == "someone/model has no revision 'main'")
      server.misbehave(api, .status(503), .status(503), .status(503))
      #expect(failure { _ = try hub.pull(name) }.contains("fails (status 503); run the same command again"))
      server.misbehave(api, .redirect("\(server.endpoint)\(api)?again"))
      let renamed = try hub.pull(name)
      #expect(renamed.hasSuffix(LocalHub.commit), "a renamed model is followed to its new address")
    }
  }

  @Test("a hub that cannot be reached leaves the cache in use")
  func fallsBackToTheCache() throws {
    let server = try server()
    try withCache { cache in
      var options = HubOptions()
      options.attempts = 1
      let gone = HuggingFaceHub(
        environment: HubEnvironment(endpoint: "http://127.0.0.1:9", cache: cache), options: options)
      #expect(failure { _ = try gone.pull(name) }.contains("127.0.0.1:9 cannot be reached"))
      let folder = try client(server, cache: cache).pull(name)
      let remark = Mutex("")
      #expect(try gone.pull(name, onRemark: { text in remark.withLock { $0 = text } }) == folder)
      #expect(remark.withLock { $0 }.hasSuffix("using what the cache has"))
    }
  }

  @Test("blobs that another tool fetched are used")
  func sharesTheCache() throws {
    let server = try server()
    try withCache { cache in
      let blobs = "\(cache)/models--someone--model/blobs"
      try FileManager.default.createDirectory(atPath: blobs, withIntermediateDirectories: true)
      try Data(weights).write(to: URL(fileURLWithPath: "\(blobs)/\(sha256(weights))"))
      let folder = try client(server, cache: cache).pull(name)
      #expect(content(folder + "/model.safetensors") == sha256(weights))
      #expect(!server.requests.contains { $0.path.contains("model.safetensors") })
    }
  }

  @Test("several processes may pull the same model at once")
  func sharesTheWork() throws {
    let server = try server()
    try withCache { cache in
      let hub = client(server, cache: cache)
      let results = Mutex<[String]>([])
      let threads = (0..<3).compactMap { _ in
        startThread {
          let path = (try? hub.pull(name)) ?? "failed"
          results.withLock { $0.append(path) }
        }
      }
      for thread in threads { pthread_join(thread, nil) }
      let folder = "\(cache)/models--someone--model/snapshots/\(LocalHub.commit)"
      #expect(results.withLock { $0 } == [folder, folder, folder])
      #expect(content(folder + "/model.safetensors") == sha256(weights))
      #expect(server.requests.filter { $0.path.hasPrefix("/store/model.safetensors") }.count == 10)
    }
  }

  @Test("a disk that is too small is said before anything is fetched")
  func checksTheDisk() throws {
    let server = try LocalHub()
    server.add("model.safetensors", weights)
    let listing =
      "{\"sha\":\"\(LocalHub.commit)\",\"siblings\":[{\"rfilename\":\"a\",\"size\":9000000000000000,\"blobId\":\"\(gitBlob([]))\"}]}"
    let repository = name
    let parsed = try RepositoryListing(json: Array(listing.utf8), of: repository)
    #expect(parsed.files.first?.size == 9_000_000_000_000_000)
    try withCache { cache in
      let files = HubCache(repository, in: cache)
      try files.prepare()
      let message = failure { try checkSpace(parsed.files, files) }
      #expect(message.contains("the disk has too little space"))
    }
  }
}
