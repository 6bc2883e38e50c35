import Glibc

/// A file that `--data` means, and how often an epoch sees it.
public struct DataFile: Sendable, Equatable {
  /// The path as it was written or found.
  public var path: String
  /// Passes over the file in each epoch: 2 sees every sample twice, 0.5 half of them, drawn anew each time.
  public var weight: Double

  /// A file of a dataset.
  public init(path: String, weight: Double = 1) {
    self.path = path
    self.weight = weight
  }

  /// Name endings that a folder is searched for; each also with `.gz`, `.zst` or `.zstd` behind it.
  public static let endings = ["jsonl", "ndjson", "json", "csv", "tsv", "txt"]

  /// The files that names mean.
  ///
  /// A name is a path, a folder with all data files below it, a pattern with `*`, `?`, `[…]`, `{…}` and `**` for any number of
  /// folders, or `-` for standard input, and may end in `@` and a weight. A path that exists is never read as anything else.
  public static func expand(_ names: [String]) throws(DatasetError) -> [DataFile] {
    var files: [DataFile] = []
    for name in names { files += try expand(name) }
    if files.isEmpty { throw DatasetError(path: "data", "no data file was given") }
    return files
  }

  private static func expand(_ name: String) throws(DatasetError) -> [DataFile] {
    var (path, weight) = (name, 1.0)
    if !exists(name), let at = name.lastIndex(of: "@"), at != name.startIndex,
      let number = Double(name[name.index(after: at)...])
    {
      guard number > 0, number <= 1000 else {
        throw DatasetError(path: name, "a weight is a number above 0 and up to 1000")
      }
      path = String(name[..<at])
      weight = number
    }
    if path == "-" || path.hasPrefix("-.") { return [DataFile(path: path, weight: weight)] }
    if exists(path) {
      guard Folders.isFolder(path) else { return [DataFile(path: path, weight: weight)] }
      let found = files(below: path)
      if found.isEmpty {
        throw DatasetError(
          path: path, "the folder holds no data file (\(endings.map { "." + $0 }.joined(separator: ", ")))")
      }
      return found.map { DataFile(path: $0, weight: weight) }
    }
    guard path.contains(where: { "*?[{".contains($0) }) else {
      throw DatasetError(path: path, "there is no such file or folder")
    }
    let found = matches(path).filter { !Folders.isFolder($0) }
    if found.isEmpty { throw DatasetError(path: path, "no file matches this pattern") }
    return found.map { DataFile(path: $0, weight: weight) }
  }

  /// What a name ends in, in lower case: the kind of file, without what says that it is compressed.
  static func ending(_ path: String) -> String {
    let name = path.split(separator: "/").last.map(String.init) ?? path
    var parts = name.split(separator: ".", omittingEmptySubsequences: false).dropFirst().map { $0.lowercased() }
    if let last = parts.last, ["gz", "zst", "zstd"].contains(last) { parts.removeLast() }
    return parts.last ?? ""
  }

  private static func files(below folder: String) -> [String] {
    Folders.names(in: folder).filter { !$0.hasPrefix(".") }.flatMap { name in
      let path = folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)"
      if Folders.isFolder(path) { return files(below: path) }
      return endings.contains(ending(name)) ? [path] : []
    }
  }

  /// The paths that a pattern means, each once, in the order of folders.
  private static func matches(_ pattern: String) -> [String] {
    let parts = pattern.split(separator: "/", omittingEmptySubsequences: false)
    guard let place = parts.firstIndex(of: "**") else { return globbed(pattern) }
    let before = parts[..<place].joined(separator: "/")
    let after = place + 1 < parts.count ? parts[(place + 1)...].joined(separator: "/") : "*"
    let tops = place == 0 ? [""] : before.isEmpty ? ["/"] : globbed(before).filter { Folders.isFolder($0) }
    var found: [String] = []
    var seen: Set<String> = []
    for folder in tops.flatMap(folders) {
      let inside = folder.isEmpty || folder.hasSuffix("/") ? folder : folder + "/"
      for path in matches(inside.reduce(into: "") { $0 += "\\*?[]{}~".contains($1) ? "\\\($1)" : "\($1)" } + after)
      where seen.insert(path).inserted { found.append(path) }
    }
    return found
  }

  /// A folder and all below it, those that begin with a dot and links to folders aside; `""` is the folder of the process.
  private static func folders(_ folder: String) -> [String] {
    let path = folder.isEmpty ? "." : folder
    let inside = folder.isEmpty || folder.hasSuffix("/") ? folder : folder + "/"
    return [folder]
      + Folders.names(in: path).filter { !$0.hasPrefix(".") }.map { inside + $0 }
      .filter { Folders.isFolder($0) && Folders.target(ofLink: $0) == nil }.flatMap(folders)
  }

  private static func globbed(_ pattern: String) -> [String] {
    var result = glob_t()
    defer { globfree(&result) }
    guard glob(pattern, GLOB_BRACE, nil, &result) == 0 else { return [] }
    return (0..<Int(result.gl_pathc)).compactMap { index in result.gl_pathv[index].map { String(cString: $0) } }
  }

  private static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }
}
