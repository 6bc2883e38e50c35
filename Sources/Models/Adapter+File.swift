import ModelFiles
import Tensors

extension Adapter {
  /// What PEFT calls this adapter's configuration; `baseModel` names the model it belongs to.
  public func fileConfiguration(baseModel: String?) -> AdapterConfiguration {
    AdapterConfiguration(
      rank: configuration.rank, alpha: configuration.alpha, dropout: configuration.dropout,
      usesRSLoRA: configuration.useRSLoRA, usesDoRA: configuration.useDoRA,
      targetModules: TargetModule.allCases.filter { configuration.targetModules.contains($0) }.map(\.rawValue),
      baseModel: baseModel)
  }

  /// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`, for PEFT and for ``load(_:)``.
  public func save(to folder: String, baseModel: String?) throws {
    try snapshot(baseModel: baseModel).save(to: folder)
  }

  /// The adapter's values and configuration, ready to be written by another thread.
  public func snapshot(of vector: Tensor, baseModel: String?) throws -> any LearnedSnapshot {
    Snapshot(
      configuration: fileConfiguration(baseModel: baseModel), parts: parts, values: try device.floats(vector))
  }

  /// Takes over the adapter of a folder, which must be of this adapter's shapes.
  public func load(folder: String) throws { try load(AdapterFile.load(folder: folder, for: model)) }

  private struct Snapshot: LearnedSnapshot {
    let configuration: AdapterConfiguration
    let parts: [Part]
    let values: [Float]

    func save(to folder: String) throws {
      try values.withUnsafeBufferPointer { values in
        try AdapterFile.save(
          to: folder, configuration: configuration,
          tensors: parts.map {
            (name: $0.name, shape: $0.shape, values: UnsafeBufferPointer(rebasing: values[$0.range]))
          })
      }
    }
  }

  /// Takes over the elements of a PEFT adapter, whose shapes were checked against the model when it was opened.
  public func load(_ file: AdapterFile) throws { try load(AdapterSum([file])) }

  /// Takes over the elements of a sum of adapters; pairs that it has not become zeros.
  public func load(_ sum: AdapterSum) throws {
    guard sum.configuration.usesDoRA == configuration.useDoRA else {
      throw ModelError(
        "the adapter to load \(sum.configuration.usesDoRA ? "has" : "lacks") DoRA's magnitudes, unlike this one")
    }
    guard sum.configuration.rank == configuration.rank, sum.configuration.scale == configuration.scale,
      configuration.targetModules.isSuperset(of: sum.modules), let folder = sum.files.first?.folder
    else { throw ModelError("the adapter to load has another rank, scale or other modules than this one") }
    var values = [Float](repeating: 0, count: count)
    // Rows without a pair keep their length.
    try fillMagnitudes(&values)
    let parts = Dictionary(uniqueKeysWithValues: self.parts.map { ($0.name, $0) })
    for layer in sum.layers {
      for module in sum.modules {
        guard let (a, b) = try sum.decode(layer: layer, module: module) else { continue }
        for (isB, elements) in [(false, a), (true, b)] {
          guard let part = parts[AdapterFile.tensorName(layer: layer, module: module, isB: isB)],
            part.range.count == elements.count
          else { throw ModelError("\(folder): \(module.path(layer: layer)) does not fit this model") }
          values.replaceSubrange(part.range, with: elements)
        }
        if let magnitudes = try sum.magnitudes(layer: layer, module: module),
          let part = parts[AdapterFile.magnitudeName(layer: layer, module: module)],
          part.range.count == magnitudes.count
        {
          values.replaceSubrange(part.range, with: magnitudes)
        }
      }
    }
    try set(values)
  }
}

extension LoRAConfiguration {
  /// What describes a sum of adapters.
  public init(_ sum: AdapterSum) {
    self.init(
      rank: sum.configuration.rank, alpha: sum.configuration.alpha, useRSLoRA: sum.configuration.usesRSLoRA,
      useDoRA: sum.configuration.usesDoRA, dropout: sum.configuration.dropout, targetModules: Set(sum.modules))
  }
}

extension LanguageModel {
  /// Opens the PEFT adapter in `folder` and attaches it.
  @discardableResult
  public func loadAdapter(from folder: String, training: Bool = false) throws -> Adapter {
    try loadAdapters(from: [folder], training: training)
  }

  /// Opens the PEFT adapters in `folders` and attaches their sum.
  @discardableResult
  public func loadAdapters(from folders: [String], training: Bool = false) throws -> Adapter {
    let sum = try AdapterSum(
      folders.map { (folder) throws(ModelFileError) in try AdapterFile.load(folder: folder, for: configuration) })
    let adapter = try makeAdapter(LoRAConfiguration(sum), training: training)
    try adapter.load(sum)
    attach(adapter)
    return adapter
  }
}
