import Glibc
import ModelFiles
import Training

/// Brings the adapter of a run, of one of its checkpoints, or of any PEFT folder into a folder of its own.
public enum AdapterExport {
  /// What was exported.
  public struct Result: Sendable {
    /// The folder that the adapter came from.
    public let source: String
    /// The new adapter.
    public let adapter: AdapterFile
  }

  /// Checks the adapter of `folder` and writes it in fp32 to `output`, which must not hold one yet.
  ///
  /// Of a run that is not finished, the best checkpoint is taken, else the latest whole one. With `model`, the adapter's
  /// shapes are compared with the model's; `baseModel` replaces the model's name in the configuration.
  public static func export(
    _ folder: String, to output: String, for model: ModelConfiguration? = nil, baseModel: String? = nil
  ) throws -> Result {
    let source = try adapterFolder(in: folder)
    for name in [AdapterFile.fileName, AdapterConfiguration.fileName] where access("\(output)/\(name)", F_OK) == 0 {
      throw RunError(output, "the folder holds an adapter already (\(name)); choose another --output")
    }
    let adapter = try AdapterFile.load(folder: source, for: model)
    var configuration = adapter.configuration
    if let baseModel { configuration.baseModel = baseModel }
    try write(adapter, configuration, to: output)
    return Result(source: source, adapter: try AdapterFile.load(folder: output, for: model))
  }

  /// The folder of the adapter that `folder` stands for: itself, or the checkpoint to take of an unfinished run.
  public static func adapterFolder(in folder: String) throws -> String {
    if access("\(folder)/\(AdapterConfiguration.fileName)", F_OK) == 0 { return folder }
    let store = CheckpointStore(runPath: folder)
    if let best = store.bestStep, let entry = store.entries.first(where: { $0.step == best }),
      (try? store.verify(entry)) != nil
    {
      return entry.path
    }
    let (latest, damaged) = store.latest()
    if let latest { return latest.path }
    throw RunError(
      folder,
      damaged.first.map { "no whole checkpoint here: \($0)" }
        ?? "neither an adapter (\(AdapterConfiguration.fileName)) nor a run with checkpoints")
  }

  private static func write(
    _ adapter: AdapterFile, _ configuration: AdapterConfiguration, to output: String
  ) throws {
    var stored: [(name: String, tensor: StoredTensor)] = []
    for pair in adapter.pairs {
      for (isB, tensor) in [(false, pair.a), (true, pair.b)] {
        // The names as they must be, not as a state dictionary may have spelt them.
        guard let name = AdapterFile.tensorName(layer: pair.layer, projection: pair.projection, isB: isB) else {
          continue
        }
        stored.append((name, tensor))
      }
    }
    let total = stored.reduce(0) { $0 + $1.tensor.count }
    let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: max(1, total))
    defer { buffer.deallocate() }
    var tensors: [(name: String, shape: [Int], values: UnsafeBufferPointer<Float>)] = []
    var start = 0
    for (name, tensor) in stored {
      let slice = UnsafeMutableBufferPointer(rebasing: buffer[start..<start + tensor.count])
      if let base = slice.baseAddress { try tensor.decode(rows: 0..<tensor.rowCount, into: base) }
      tensors.append((name, tensor.shape, UnsafeBufferPointer(slice)))
      start += tensor.count
    }
    try AdapterFile.save(to: output, configuration: configuration, tensors: tensors)
  }
}
