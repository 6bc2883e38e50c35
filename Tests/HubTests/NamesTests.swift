import TestSupport
import Testing

@testable import Hub

@Suite("Names, listings and environment of the hub")
struct NamesTests {
  @Test("a repository's name, its file and revision")
  func parsesNames() {
    #expect(RepositoryName("microsoft/phi-4")?.id == "microsoft/phi-4")
    #expect(RepositoryName("microsoft/phi-4")?.revision == "main")
    #expect(RepositoryName("gpt2")?.folder == "models--gpt2")
    #expect(RepositoryName("a/b@v1.0")?.revision == "v1.0")
    #expect(RepositoryName("a/b@v1", revision: "v2")?.revision == "v2")
    #expect(RepositoryName("https://huggingface.co/a/b")?.id == "a/b")
    #expect(RepositoryName("unsloth/x-GGUF/sub/x-Q4_0.gguf")?.file == "sub/x-Q4_0.gguf")
    for bad in [
      "", "/", "a/", "/a", "a//b", "../x", "a/..", "a/b/../../c", "a b/c", "-a/b", "a/b@", "a/b@../c", "a/b--c", "é/b",
    ] {
      #expect(RepositoryName(bad) == nil, "\(bad)")
    }
  }

  @Test("paths that would leave their folder are refused")
  func checksPaths() {
    for bad in ["../x", "/etc/passwd", "a/../../b", "a//b", ".", "..", "a\\b", "a\nb", ""] {
      #expect(!RepositoryFile.isSafe(bad), "\(bad)")
    }
    #expect(RepositoryFile.isSafe("onnx/model.onnx"))
    #expect(RepositoryFile.isSafe(".gitattributes"))
  }

  @Test(
    "a listing that says nonsense gets one line",
    arguments: [
      ("[", "is no JSON"), ("{}", "names no commit"), ("{\"sha\":\"xyz\"}", "names no commit"),
      ("{\"sha\":\"SHA\"}", "names no files"), ("{\"sha\":\"SHA\",\"siblings\":[3]}", "a usable name"),
      ("{\"sha\":\"SHA\",\"siblings\":[{\"rfilename\":\"../../x\",\"size\":1,\"blobId\":\"SHA\"}]}", "a usable name"),
      ("{\"sha\":\"SHA\",\"siblings\":[{\"rfilename\":\"x\",\"blobId\":\"SHA\"}]}", "the size of 'x'"),
      ("{\"sha\":\"SHA\",\"siblings\":[{\"rfilename\":\"x\",\"size\":-1,\"blobId\":\"SHA\"}]}", "the size of 'x'"),
      ("{\"sha\":\"SHA\",\"siblings\":[{\"rfilename\":\"x\",\"size\":1,\"blobId\":\"../x\"}]}", "hashes to"),
      (
        "{\"sha\":\"SHA\",\"siblings\":[{\"rfilename\":\"x\",\"size\":1,\"lfs\":{\"sha256\":\"../../x\"}}]}",
        "malformed SHA-256"
      ),
      (
        "{\"sha\":\"SHA\",\"siblings\":[{\"rfilename\":\"x\",\"size\":1,\"blobId\":\"SHA\"},{\"rfilename\":\"x\",\"size\":1,\"blobId\":\"SHA\"}]}",
        "names a file twice"
      ),
    ])
  func refusesListings(_ text: String, _ words: String) throws {
    let repository = try #require(RepositoryName("a/b"))
    let json = text.replacing("SHA", with: LocalHub.commit)
    let error = #expect(throws: HubError.self) {
      try RepositoryListing(json: Array(json.utf8), of: repository)
    }
    #expect(error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  private func chosen(_ paths: [String], _ selection: FileSelection = FileSelection(), name: String = "a/b") throws
    -> [String]
  {
    let siblings = paths.map { "{\"rfilename\":\"\($0)\",\"size\":1,\"blobId\":\"\(LocalHub.commit)\"}" }
    let json = "{\"sha\":\"\(LocalHub.commit)\",\"siblings\":[\(siblings.joined(separator: ","))]}"
    let repository = try #require(RepositoryName(name))
    return try selection.chosen(from: RepositoryListing(json: Array(json.utf8), of: repository), of: repository).map(
      \.path)
  }

  @Test("what a model needs is chosen, once")
  func choosesFiles() throws {
    let mixed = [
      ".gitattributes", "README.md", "config.json", "model.safetensors", "consolidated.safetensors",
      "pytorch_model.bin",
      "onnx/model.onnx", "original/params.json", "x.gguf",
    ]
    #expect(try chosen(mixed) == ["README.md", "config.json", "model.safetensors"])
    #expect(try chosen(mixed, FileSelection(include: ["*"])) == mixed)
    #expect(try chosen(mixed, FileSelection(include: ["*.json"], exclude: ["original/"])) == ["config.json"])
    #expect(try chosen(["README.md", "m.Q4_0.gguf"]) == ["README.md", "m.Q4_0.gguf"])
    let many = ["m.Q4_0.gguf", "m.Q8_0.gguf", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf"]
    #expect(throws: HubError.self) { try chosen(many) }
    #expect(try chosen(many, name: "a/b/m.Q8_0.gguf") == ["m.Q8_0.gguf"])
    #expect(try chosen(many, name: "a/b/big-00001-of-00002.gguf") == Array(many.dropFirst(2)))
    #expect(throws: HubError.self) { try chosen(many, name: "a/b/other.gguf") }
    #expect(throws: HubError.self) { try chosen(mixed, FileSelection(include: ["*.nothing"])) }
  }

  @Test("the environment's variables, as Hugging Face's tools read them")
  func readsTheEnvironment() {
    func environment(_ variables: [String: String]) -> HubEnvironment { HubEnvironment { variables[$0] } }
    let plain = environment(["HOME": "/nowhere"])
    #expect(plain.cache == "/nowhere/.cache/huggingface/hub")
    #expect(plain.endpoint == "https://huggingface.co")
    #expect(plain.token == nil && !plain.isOffline)
    #expect(environment(["HF_HOME": "/data/hf"]).cache == "/data/hf/hub")
    #expect(environment(["HF_HOME": "/data/hf", "HF_HUB_CACHE": "/x"]).cache == "/x")
    #expect(environment(["HOME": "/nowhere", "HF_HOME": "~/hf"]).cache == "/nowhere/hf/hub")
    #expect(environment(["HF_ENDPOINT": "http://mirror/"]).endpoint == "http://mirror")
    #expect(environment(["HF_TOKEN": "hf_x"]).token == "hf_x")
    #expect(environment(["HF_TOKEN": "hf_x\r\nEvil: yes"]).token == nil)
    #expect(environment(["HF_HUB_OFFLINE": "1"]).isOffline && !environment(["HF_HUB_OFFLINE": "0"]).isOffline)
  }

  @Test("hosts are compared with scheme and port, and a user name deceives nobody")
  func comparesOrigins() {
    func same(_ left: String, _ right: String) -> Bool { HubRequester.isSameOrigin(left, right) }
    #expect(same("https://huggingface.co/a", "https://HuggingFace.co:443/b?c"))
    #expect(!same("https://huggingface.co/a", "http://huggingface.co/a"))
    #expect(!same("https://huggingface.co@evil.example/a", "https://huggingface.co"))
    #expect(!same("https://huggingface.co.evil.example/a", "https://huggingface.co"))
    #expect(!same("http://127.0.0.1:1/a", "http://127.0.0.1:2/a"))
  }
}

@Suite("Digests")
struct DigestTests {
  @Test("FIPS 180's examples, git's name of a blob, and lengths around the block's borders")
  func matchesExamples() {
    #expect(sha256(Array("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect(sha256([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(
      sha256([UInt8](repeating: 0x61, count: 1_000_000))
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    #expect(gitBlob([]) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
    #expect(gitBlob(Array("hello\n".utf8)) == "ce013625030ba8dba906f756967f9e9ca394464a")
    // Piece by piece is the same as at once.
    let bytes = noise(1_000)
    for step in [1, 3, 55, 56, 63, 64, 65, 999] {
      var hasher = ContentHasher(RepositoryFile(path: "x", size: 1_000, digest: .sha256(sha256(bytes))))
      for start in stride(from: 0, to: 1_000, by: step) {
        bytes[start..<min(1_000, start + step)].withUnsafeBytes { hasher.update($0) }
      }
      let matches = hasher.matches()
      #expect(matches, "\(step)")
    }
  }
}
