import Glibc

/// The few operations on folders that a run needs.
enum Folders {
  /// Makes a folder and those above it; one that is there already is fine.
  static func make(_ path: String) throws(RunError) {
    if isFolder(path) { return }
    if mkdir(path, 0o777) == 0 { return }
    if errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      try make(String(path[..<slash]))
      if mkdir(path, 0o777) == 0 { return }
    }
    if errno == EEXIST {
      if isFolder(path) { return }
      throw RunError(path, "a folder is needed here, but this is a file")
    }
    throw .system(path, "make the folder")
  }

  static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  static func isEmptyFile(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && status.st_size == 0
  }

  static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// The names in a folder, sorted; none where there is no folder.
  static func names(in path: String) -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// Removes a file, a link, or a folder with all that is in it; links are never followed.
  static func remove(_ path: String) throws(RunError) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    if status.st_mode & S_IFMT == S_IFDIR {
      for name in names(in: path) { try remove("\(path)/\(name)") }
      if rmdir(path) != 0 { throw .system(path, "remove") }
    } else if unlink(path) != 0 {
      throw .system(path, "remove")
    }
  }

  /// Brings a file's bytes, or a folder's names, to the disk.
  static func synchronize(_ path: String) throws(RunError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { throw .system(path, "open") }
    defer { close(descriptor) }
    // Some file systems cannot synchronize a folder and say EINVAL.
    if fsync(descriptor) != 0, errno != EINVAL { throw .system(path, "write") }
  }

  /// Points the link at `path` to `target`; whoever looks sees the old target or the new one.
  static func link(_ path: String, to target: String) throws(RunError) {
    let slash = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
    let temporary = "\(path[..<slash]).\(path[slash...]).incomplete"
    unlink(temporary)
    if symlink(target, temporary) != 0 { throw .system(path, "make the link") }
    if rename(temporary, path) != 0 {
      let code = errno
      unlink(temporary)
      throw .system(path, "make the link", code)
    }
  }

  /// What the link at `path` points to.
  static func target(ofLink path: String) -> String? {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = buffer.withUnsafeMutableBytes { bytes in
      bytes.baseAddress.map { readlink(path, $0.assumingMemoryBound(to: CChar.self), bytes.count) } ?? -1
    }
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }
}
