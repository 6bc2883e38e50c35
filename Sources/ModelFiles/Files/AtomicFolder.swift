import Glibc

/// Makes a folder that appears whole or not at all.
public enum AtomicFolder {
  /// Makes `target`, which must not be there or be empty: `fill` writes into a hidden folder beside it, which then gets
  /// the name.
  ///
  /// When `fill` throws, nothing stays. What a killed process left is removed by the next one that makes this folder.
  public static func make(_ target: String, _ fill: (_ folder: String) throws -> Void) throws {
    var path = target
    while path.utf8.count > 1, path.hasSuffix("/") { path.removeLast() }
    let (parent, name) = split(path)
    if name.isEmpty || name == "." || name == ".." { throw ModelFileError(target, "this is no name for a folder") }
    try requireEmpty(path)
    let hidden = "\(parent)/.\(name).incomplete"
    let lock = try makeLocked(hidden, for: target)
    defer { close(lock) }
    do {
      try fill(hidden)
      try synchronizeFolder(hidden)
      if rename(hidden, path) != 0 { throw ModelFileError.system(target, "make the folder") }
    } catch {
      remove(hidden)
      throw error
    }
    try synchronizeFolder(parent)
  }

  /// Throws unless a folder is not there or empty.
  public static func requireEmpty(_ path: String) throws(ModelFileError) {
    var status = stat()
    if lstat(path, &status) != 0 {
      if errno == ENOENT { return }
      throw .system(path, "open")
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw ModelFileError(path, "this exists already and is no folder; choose another --output")
    }
    if !names(in: path).isEmpty { throw ModelFileError(path, "the folder is not empty; choose another --output") }
  }

  /// The names in a folder, sorted; none where it cannot be read.
  public static func names(in folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// The hidden folder, empty; its lock tells a second process from one that was killed.
  private static func makeLocked(_ hidden: String, for target: String) throws(ModelFileError) -> Int32 {
    for _ in 0..<2 {
      if mkdir(hidden, 0o777) != 0, errno != EEXIST { throw .system(target, "make the folder") }
      let descriptor = open(hidden, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
      if descriptor < 0 { throw .system(hidden, "open") }
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        close(descriptor)
        throw ModelFileError(target, "another process is writing this folder")
      }
      for name in names(in: hidden) { remove(hidden + "/" + name) }
      var (opened, named) = (stat(), stat())
      if fstat(descriptor, &opened) == 0, lstat(hidden, &named) == 0, opened.st_ino == named.st_ino {
        return descriptor
      }
      // Whoever held the lock before renamed the folder meanwhile.
      close(descriptor)
    }
    throw ModelFileError(target, "another process is writing this folder")
  }

  /// Removes a file or a folder with all that is in it; links are never followed.
  private static func remove(_ path: String) {
    if unlink(path) == 0 { return }
    for name in names(in: path) { remove(path + "/" + name) }
    rmdir(path)
  }
}
