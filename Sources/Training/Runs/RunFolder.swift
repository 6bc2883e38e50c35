import Glibc
import ModelFiles

/// The folder of a run, held by one process at a time.
///
/// It holds `adapter_model.safetensors`, `adapter_config.json`, `checkpoints/step-000100/`, the links `best` and `latest`,
/// `metrics.jsonl` and `config.yaml`.
public final class RunFolder: Sendable {
  /// The folder.
  public let path: String
  /// Its checkpoints.
  public let checkpoints: CheckpointStore
  private let lock: Int32

  /// Makes the folder of a new run, or takes an empty one; a folder that holds a run already is refused.
  public static func create(_ path: String, saveLimit: Int? = nil) throws -> RunFolder {
    try create(path, saveLimit: saveLimit, atMoment: nil)
  }

  /// The same, with what a test does at the moments of a save.
  static func create(
    _ path: String, saveLimit: Int?, atMoment: (@Sendable (CheckpointStore.Moment) -> Void)?
  ) throws -> RunFolder {
    let path = withoutSlash(path)
    try Folders.make(path)
    let run = try RunFolder(path, saveLimit, atMoment)
    for name in ["checkpoints", "metrics.jsonl", "adapter_model.safetensors", "model.safetensors"]
    where Folders.exists("\(path)/\(name)") {
      if name == "checkpoints", run.checkpoints.entries.isEmpty { continue }
      // A run that ended before it had logged anything.
      if name == "metrics.jsonl", Folders.isEmptyFile("\(path)/\(name)") { continue }
      throw RunError(path, "the folder holds a run already (\(name)); go on with --resume or choose another --output")
    }
    try run.checkpoints.removeLeftovers()
    return run
  }

  /// Opens the folder of a run that goes on.
  public static func resume(_ path: String, saveLimit: Int? = nil) throws -> RunFolder {
    let path = withoutSlash(path)
    guard Folders.isFolder(path) else { throw RunError(path, "no run to resume: there is no such folder") }
    let run = try RunFolder(path, saveLimit, nil)
    try run.checkpoints.removeLeftovers()
    return run
  }

  private init(
    _ path: String, _ saveLimit: Int?, _ atMoment: (@Sendable (CheckpointStore.Moment) -> Void)?
  ) throws {
    self.path = path
    var store = CheckpointStore(runPath: path, limit: saveLimit)
    store.atMoment = atMoment
    checkpoints = store
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if descriptor < 0 { throw RunError.system(path, "open the folder") }
    if flock(descriptor, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK {
      close(descriptor)
      throw RunError(path, "another process is training in this folder; choose another --output or wait for it")
    }
    if access(path, W_OK) != 0 {
      let error = RunError.system(path, "write into the folder")
      close(descriptor)
      throw error
    }
    lock = descriptor
  }

  deinit { close(lock) }

  /// `metrics.jsonl`, one line per logged step.
  public var metricsPath: String { "\(path)/metrics.jsonl" }

  /// `config.yaml`, the resolved configuration.
  public var configurationPath: String { "\(path)/config.yaml" }

  private static func withoutSlash(_ path: String) -> String {
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    return path
  }
}
