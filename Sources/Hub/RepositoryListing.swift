import JSONValues

/// A file of a repository, with what its bytes must hash to.
struct RepositoryFile: Sendable, Equatable {
  /// Its path inside the repository.
  var path: String
  /// Bytes.
  var size: Int
  /// What its bytes must hash to; also its name among the cache's blobs.
  var digest: Digest

  /// The hub's two kinds of names for content.
  enum Digest: Sendable, Equatable {
    /// SHA-256 of a large file's bytes.
    case sha256(String)
    /// Git's name of a small file: SHA-1 of `blob SIZE\0` and its bytes.
    case gitBlob(String)

    var name: String {
      switch self {
      case .sha256(let name), .gitBlob(let name): name
      }
    }
  }

  /// Whether a path stays inside its folder.
  static func isSafe(_ path: String) -> Bool {
    guard path.utf8.count <= 1024, !path.unicodeScalars.contains(where: { $0.value < 0x20 || $0 == "\\" }) else {
      return false
    }
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    return !parts.isEmpty && parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count <= 255 }
  }
}

/// What the hub says of one revision of a repository.
struct RepositoryListing: Sendable, Equatable {
  /// The commit that the revision stands for.
  var commit: String
  /// Every file of that commit.
  var files: [RepositoryFile]

  /// Reads the answer of `/api/models/ID/revision/REVISION?blobs=true`; the hub's words are checked like any input.
  init(json bytes: [UInt8], of repository: RepositoryName) throws(HubError) {
    func bad(_ what: String) -> HubError { HubError("\(repository.id): the hub's listing \(what)") }
    let json: JSONValue
    do { json = try JSONValue.parse(bytes) } catch { throw bad("is no JSON (\(error))") }
    guard let commit = json["sha"]?.string, Self.isHexadecimal(commit, count: 40) else { throw bad("names no commit") }
    self.commit = commit
    guard let siblings = json["siblings"]?.array else { throw bad("names no files") }
    files = []
    for sibling in siblings {
      guard let path = sibling["rfilename"]?.string, RepositoryFile.isSafe(path) else {
        throw bad("has a file without a usable name")
      }
      let lfs = sibling["lfs"]
      guard let size = lfs?["size"]?.integer ?? sibling["size"]?.integer, size >= 0 else {
        throw bad("does not say the size of '\(path)'")
      }
      if let hash = lfs?["sha256"]?.string ?? lfs?["oid"]?.string {
        guard Self.isHexadecimal(hash, count: 64) else { throw bad("gives '\(path)' a malformed SHA-256") }
        files.append(RepositoryFile(path: path, size: size, digest: .sha256(hash)))
      } else {
        guard let hash = sibling["blobId"]?.string, Self.isHexadecimal(hash, count: 40) else {
          throw bad("does not say what '\(path)' hashes to")
        }
        files.append(RepositoryFile(path: path, size: size, digest: .gitBlob(hash)))
      }
    }
    guard Set(files.map(\.path)).count == files.count else { throw bad("names a file twice") }
  }

  private static func isHexadecimal(_ text: String, count: Int) -> Bool {
    text.utf8.count == count && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }
}
