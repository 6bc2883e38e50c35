import ModelFiles

extension Adapter {
  /// What PEFT calls this adapter's configuration; `baseModel` names the model it belongs to.
  public func fileConfiguration(baseModel: String?) -> AdapterConfiguration {
    AdapterConfiguration(
      rank: configuration.rank, alpha: configuration.alpha, dropout: configuration.dropout,
      usesRSLoRA: configuration.useRSLoRA,
      targetModules: TargetModule.allCases.filter { configuration.targetModules.contains($0) }.map(\.rawValue),
      baseModel: baseModel)
  }

  /// Writes `adapter_config.json` and `adapter_model.safetensors` into `folder`, for PEFT and for ``load(_:)``.
  public func save(to folder: String, baseModel: String?) throws {
    let values = try values()
    try values.withUnsafeBufferPointer { values in
      try AdapterFile.save(
        to: folder, configuration: fileConfiguration(baseModel: baseModel),
        tensors: parts.map {
          (name: $0.name, shape: [$0.rows, $0.columns], values: UnsafeBufferPointer(rebasing: values[$0.range]))
        })
    }
  }

  /// Takes over the elements of a PEFT adapter, whose shapes were checked against the model when it was opened.
  public func load(_ file: AdapterFile) throws { try load(AdapterSum([file])) }

  /// Takes over the elements of a sum of adapters; pairs that it has not become zeros.
  public func load(_ sum: AdapterSum) throws {
    guard sum.configuration.rank == configuration.rank, sum.configuration.scale == configuration.scale,
      configuration.targetModules.isSuperset(of: sum.modules), let folder = sum.files.first?.folder
    else { throw ModelError("the adapter to load has another rank, scale or other modules than this one") }
    var values = [Float](repeating: 0, count: count)
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
      dropout: sum.configuration.dropout, targetModules: Set(sum.modules))
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
