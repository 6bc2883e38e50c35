import Glibc
import ModelFiles

/// One repository's folder in the cache that Hugging Face's tools share: `blobs` named by content, `snapshots` of links
/// into them, `refs` from revisions to commits.
struct HubCache {
  let repository: RepositoryName
  /// `CACHE/models--OWNER--NAME`.
  let folder: String
  private let locks: String

  init(_ repository: RepositoryName, in cache: String) {
    self.repository = repository
    folder = "\(cache)/\(repository.folder)"
    locks = "\(cache)/.locks/\(repository.folder)"
  }

  var blobs: String { folder + "/blobs" }

  func blob(_ file: RepositoryFile) -> String { "\(blobs)/\(file.digest.name)" }

  func snapshot(_ commit: String) -> String { "\(folder)/snapshots/\(commit)" }

  /// The commit that the revision stood for when it was last asked for.
  var knownCommit: String? {
    if let file = fopen("\(folder)/refs/\(repository.revision)", "re") {
      defer { fclose(file) }
      var buffer = [UInt8](repeating: 0, count: 64)
      let count = fread(&buffer, 1, buffer.count, file)
      let text = String(decoding: buffer.prefix(count).filter { $0 > 0x20 }, as: UTF8.self)
      return RepositoryFile.isSafe(text) && isFolder(snapshot(text)) ? text : nil
    }
    return RepositoryFile.isSafe(repository.revision) && isFolder(snapshot(repository.revision))
      ? repository.revision : nil
  }

  /// Whether the file's bytes are there, whoever fetched them.
  func holds(_ file: RepositoryFile) -> Bool { size(of: blob(file)) == file.size }

  /// Makes the folders that a download writes to.
  func prepare() throws(ModelFileError) {
    for path in [blobs, locks, folder + "/refs", folder + "/snapshots"] { try makeFolder(path) }
  }

  /// Opens the lock that Hugging Face's tools take too; nil while somebody else holds it.
  func lock(_ file: RepositoryFile) throws(ModelFileError) -> Int32? { try lock(file.digest.name, LOCK_NB) }

  private func lock(_ name: String, _ wait: Int32) throws(ModelFileError) -> Int32? {
    let path = "\(locks)/\(name).lock"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw ModelFileError(path, "cannot write: " + String(cString: strerror(errno))) }
    if flock(descriptor, LOCK_EX | wait) == 0 { return descriptor }
    close(descriptor)
    return nil
  }

  /// Gives the blobs their paths in the commit's snapshot, then notes what the revision stands for.
  func publish(_ files: [RepositoryFile], commit: String) throws(ModelFileError) {
    // One at a time: temporary names are then nobody else's.
    let lock = try lock("swiftlet-publish", 0)
    defer { if let lock { close(lock) } }
    for file in files {
      let path = "\(snapshot(commit))/\(file.path)"
      let parent = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
      try makeFolder(parent)
      let up = String(repeating: "../", count: file.path.split(separator: "/").count + 1)
      let target = "\(up)blobs/\(file.digest.name)"
      // Whatever stands there under the right size is another tool's copy where links do not work.
      if size(of: path) == file.size { continue }
      let temporary = "\(parent)/.\(file.digest.name).\(getpid()).link"
      unlink(temporary)
      guard symlink(target, temporary) == 0, rename(temporary, path) == 0 else {
        throw ModelFileError(path, "cannot link: " + String(cString: strerror(errno)))
      }
    }
    try synchronizeFolder(snapshot(commit))
    guard commit != repository.revision else { return }
    let reference = "\(folder)/refs/\(repository.revision)"
    try makeFolder(String(reference[..<(reference.lastIndex(of: "/") ?? reference.startIndex)]))
    try writeAtomically(commit, to: reference)
  }

  private func makeFolder(_ path: String) throws(ModelFileError) {
    if mkdir(path, 0o777) == 0 || errno == EEXIST { return }
    guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash > path.startIndex else {
      throw ModelFileError(path, "cannot make this folder: " + String(cString: strerror(errno)))
    }
    try makeFolder(String(path[..<slash]))
    guard mkdir(path, 0o777) == 0 || errno == EEXIST else {
      throw ModelFileError(path, "cannot make this folder: " + String(cString: strerror(errno)))
    }
  }
}

/// The size of the regular file that a path leads to; nil where there is none.
func size(of path: String) -> Int? {
  var status = stat()
  return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : nil
}

func isFolder(_ path: String) -> Bool {
  var status = stat()
  return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
}
