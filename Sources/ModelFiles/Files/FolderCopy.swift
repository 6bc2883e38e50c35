import Glibc

/// Copies a model's folder so that the copy appears whole or not at all.
public enum FolderCopy {
  /// Files from this size on are linked where the file system can, since copying them takes time and space.
  private static let largeFile = 16 << 20
  /// Folders may lie this deep within each other.
  private static let deepestFolder = 16

  /// Copies a folder; some files get other contents, or are added.
  public static func copy(
    _ source: String, to target: String, replacing contents: [String: [UInt8]]
  ) throws(ModelFileError) {
    try requireUsable(target, copyOf: source)
    try make(target) { (folder) throws(ModelFileError) in
      try copyEntries(of: source, to: folder, except: Set(contents.keys), depth: 0)
      for (name, bytes) in contents.sorted(by: { $0.key < $1.key }) {
        try writeAtomically(bytes, to: folder + "/" + name)
      }
    }
  }

  /// Makes a folder, which must not be there or be empty, by filling a hidden one beside it.
  public static func make(
    _ target: String, _ fill: (_ folder: String) throws(ModelFileError) -> Void
  ) throws(ModelFileError) {
    try requireUsable(target)
    let path = withoutSlash(target)
    let (parent, name) = split(path)
    let hidden = "\(parent)/.\(name).incomplete-\(getpid())"
    if mkdir(hidden, 0o777) != 0 { throw .system(target, "make") }
    do throws(ModelFileError) {
      try fill(hidden)
      try synchronizeFolder(hidden)
      guard rename(hidden, path) == 0 else { throw .system(target, "make") }
    } catch {
      removeAll(hidden)
      throw error
    }
    try synchronizeFolder(parent)
  }

  /// Refuses a name under which no folder can be made: it must not be there yet, or be an empty folder.
  ///
  /// - Parameter source: A folder in which it must not lie.
  public static func requireUsable(_ target: String, copyOf source: String? = nil) throws(ModelFileError) {
    if let home = source.flatMap(resolved), let other = resolvedTarget(target),
      other == home || other.hasPrefix(home + "/")
    {
      throw ModelFileError(target, "this is the model's own folder, or lies in it; choose another --output")
    }
    let path = withoutSlash(target)
    let (parent, name) = split(path)
    if name.isEmpty || name == "." || name == ".." { throw ModelFileError(target, "this is no name for a folder") }
    var status = stat()
    if stat(path, &status) != 0 {
      guard errno == ENOENT else { throw .system(path, "open") }
      if access(parent, W_OK) != 0 { throw .system(parent, "write") }
      return
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      throw ModelFileError(path, "this exists already and is no folder; choose another --output")
    }
    if try !entries(of: path).isEmpty {
      throw ModelFileError(path, "the folder is not empty; choose another --output")
    }
  }

  // MARK: Entries

  private static func entries(of folder: String) throws(ModelFileError) -> [String] {
    guard let stream = opendir(folder) else { throw .system(folder, "open") }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  private static func copyEntries(
    of source: String, to target: String, except names: Set<String>, depth: Int
  ) throws(ModelFileError) {
    if depth > deepestFolder { throw ModelFileError(source, "folders lie more than \(deepestFolder) deep") }
    for name in try entries(of: source) where !names.contains(name) {
      let (from, to) = (source + "/" + name, target + "/" + name)
      var (link, status) = (stat(), stat())
      guard lstat(from, &link) == 0, stat(from, &status) == 0 else { continue }
      switch status.st_mode & S_IFMT {
      case S_IFREG: try copyFile(from, to, Int(status.st_size))
      // A link to a folder may lead back here.
      case S_IFDIR where link.st_mode & S_IFMT == S_IFDIR:
        if mkdir(to, 0o777) != 0 { throw .system(to, "make") }
        try copyEntries(of: from, to: to, except: [], depth: depth + 1)
      default: continue
      }
    }
  }

  private static func copyFile(_ source: String, _ target: String, _ size: Int) throws(ModelFileError) {
    // Links are followed: the hub's cache is made of them.
    if size >= largeFile, let file = resolved(source), Glibc.link(file, target) == 0 { return }
    let file = try MappedFile(path: source)
    let writer = try AtomicFileWriter(path: target, expectedByteCount: size)
    try withExtendedLifetime(file) { () throws(ModelFileError) in try writer.write(file.bytes) }
    try writer.commit()
  }

  private static func removeAll(_ path: String) {
    if unlink(path) == 0 { return }
    for name in (try? entries(of: path)) ?? [] { removeAll(path + "/" + name) }
    rmdir(path)
  }

  // MARK: Places

  private static func withoutSlash(_ path: String) -> String {
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    return path
  }

  private static func resolved(_ path: String) -> String? {
    guard let pointer = realpath(path, nil) else { return nil }
    defer { free(pointer) }
    return String(cString: pointer)
  }

  /// Where a folder that may not be there yet will lie.
  private static func resolvedTarget(_ path: String) -> String? {
    let path = withoutSlash(path)
    if let found = resolved(path) { return found }
    let (parent, name) = split(path)
    return resolved(parent).map { $0 + "/" + name }
  }
}
