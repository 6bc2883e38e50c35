import Doctor
import Glibc
import ModelFiles
import Training

/// Brings the adapter of a run, of one of its checkpoints, or of any PEFT folder into a folder of its own.
public enum AdapterExport {
  /// What was exported.
  public struct Result: Sendable {
    /// The folders that the adapters came from.
    public let sources: [String]
    /// The new adapter.
    public let adapter: AdapterFile
  }

  /// Checks the adapters of `folders` and writes their sum in fp32 to `output`, which must not hold one yet.
  ///
  /// Of a run that is not finished, the best checkpoint is taken, else the latest whole one. With `model`, the adapters'
  /// shapes are compared with the model's; `baseModel` replaces the model's name in the configuration. `layout` says
  /// which matrices the new adapter is for: a Llama's, or those of a Phi-3's folder; where a DoRA adapter has no magnitudes for
  /// a part of those, `weights` says how long its rows are. With `examination`, the tokenizer's files lie beside the
  /// adapter, repaired where they have to be. A folder that is not there yet appears whole or not at all.
  public static func export(
    _ folders: [String], to output: String, for model: ModelConfiguration? = nil, in layout: Conversion.Layout = .llama,
    weights: Checkpoint? = nil, baseModel: String? = nil, examination: Examination? = nil
  ) throws -> Result {
    let sources = try folders.map(adapterFolder)
    for name in [AdapterFile.fileName, AdapterConfiguration.fileName] where access("\(output)/\(name)", F_OK) == 0 {
      throw RunError(output, "the folder holds an adapter already (\(name)); choose another --output")
    }
    let sum = try AdapterSum(
      sources.map { (source) throws(ModelFileError) in try AdapterFile.load(folder: source, for: model) })
    var written = try WrittenAdapter(sum, layerCount: model?.layerCount, in: layout) { layer, module in
      guard let weights else {
        throw RunError(
          sources[0], "this DoRA adapter has no magnitudes for layer \(layer)'s \(module.rawValue); name the model")
      }
      return try weights.rowNorms(of: module.path(layer: layer) + ".weight")
    }
    if let baseModel { written.configuration.baseModel = baseModel }
    func fill(_ folder: String) throws {
      try written.save(to: folder)
      try examination?.writeTokenizerFiles(to: folder)
    }
    if access(output, F_OK) == 0, !AtomicFolder.names(in: output).isEmpty {
      try fill(output)
    } else {
      try AtomicFolder.make(output, fill)
    }
    return Result(sources: sources, adapter: try AdapterFile.load(folder: output, for: model))
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
}
