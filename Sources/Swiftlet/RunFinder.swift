import Glibc
import Training

/// Finds the runs in folders.
public enum RunFinder {
  /// Folders deep that runs are looked for.
  private static let depth = 3

  /// The runs that paths name, or that lie in the folders they name, oldest first.
  public static func runs(in paths: [String]) throws -> [RunComparison.Run] {
    var found: [RunComparison.Run] = []
    var seen: Set<String> = []
    for path in paths {
      var status = stat()
      guard stat(path, &status) == 0 else { throw RunError(path, "there is no such folder") }
      guard status.st_mode & S_IFMT == S_IFDIR else { throw RunError(path, "this is no folder of a run") }
      for folder in folders(in: path, depth: depth) where seen.insert(folder).inserted {
        found.append(run(at: folder))
      }
    }
    return found.sorted { ($0.modified, $0.name) < ($1.modified, $1.name) }
  }

  private static func folders(in path: String, depth: Int) -> [String] {
    if access("\(path)/metrics.jsonl", R_OK) == 0 { return [path] }
    guard depth > 0, let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      var status = stat()
      // Links could lead in a circle.
      guard !name.hasPrefix("."), lstat("\(path)/\(name)", &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
        continue
      }
      names.append(name)
    }
    return names.sorted().flatMap { folders(in: path == "." ? $0 : "\(path)/\($0)", depth: depth - 1) }
  }

  private static func run(at path: String) -> RunComparison.Run {
    var reader = MetricsReader(path: "\(path)/metrics.jsonl")
    var status = stat()
    stat("\(path)/metrics.jsonl", &status)
    var configuration = TrainingConfiguration()
    var settings: [(name: String, value: String)] = []
    if let yaml = try? YAMLConfiguration(path: "\(path)/config.yaml"),
      (try? yaml.apply(to: &configuration)) != nil
    {
      settings = configuration.settings
    }
    return RunComparison.Run(
      name: path, points: reader.newPoints(), settings: settings, modified: Double(status.st_mtim.tv_sec))
  }
}

extension TrainingConfiguration {
  /// Every option that has a value, as names and values.
  var settings: [(name: String, value: String)] {
    TrainingOption.all.compactMap { option in option.text(in: self).map { (option.name, $0) } }
  }
}
