/// Sorts the tensors of an adapter's file into pairs, checking each on the way.
struct AdapterReader {
  let path: String
  let configuration: AdapterConfiguration
  let model: ModelConfiguration?
  private var a: [Key: StoredTensor] = [:]
  private var b: [Key: StoredTensor] = [:]
  private var magnitudes: [Key: StoredTensor] = [:]

  private enum Half { case a, b, magnitude }

  /// A matrix of a block that can have an adapter: a projection, or several that are stored as one.
  private struct Matrix {
    let name: String
    let modules: [TargetModule]

    var parent: String { modules[0].parent }
    func path(layer: Int) -> String { "model.layers.\(layer).\(parent).\(name)" }

    static let all =
      TargetModule.allCases.map { Matrix(name: $0.rawValue, modules: [$0]) }
      + FusedTensors.parts.map { Matrix(name: $0.name, modules: $0.modules) }
  }

  private struct Key: Hashable, Comparable {
    var layer: Int
    /// Place among all matrices.
    var index: Int

    var matrix: Matrix { Matrix.all[index] }
    var name: String { "layer \(layer)'s \(matrix.name)" }
    static func < (left: Key, right: Key) -> Bool { (left.layer, left.index) < (right.layer, right.index) }
  }

  init(path: String, _ configuration: AdapterConfiguration, model: ModelConfiguration?) {
    self.path = path
    self.configuration = configuration
    self.model = model
  }

  /// Takes in a tensor of the file.
  mutating func add(_ tensor: StoredTensor) throws(ModelFileError) {
    let (key, half) = try place(tensor.name)
    let isB = half == .b
    guard tensor.format.isDecodable else {
      throw wrong(tensor, "is stored as \(tensor.format.name); save the adapter in fp32, fp16 or bf16")
    }
    if half == .magnitude { return try add(magnitude: tensor, key) }
    let (rank, _) = configuration.shape(of: key.matrix.path(layer: key.layer))
    guard tensor.shape.count == 2, tensor.shape[isB ? 1 : 0] == rank else {
      let expected = isB ? "[output width, \(rank)]" : "[\(rank), input width]"
      throw wrong(tensor, "has the shape \(tensor.shape); r = \(rank) asks for \(expected)")
    }
    if let model {
      guard key.layer < model.layerCount else {
        throw wrong(tensor, "is of layer \(key.layer); the model has \(model.layerCount) layers")
      }
      let sizes = key.matrix.modules.map { model.size(of: $0) }
      let expected = isB ? [sizes.reduce(0) { $0 + $1.outputs }, rank] : [rank, sizes[0].inputs]
      guard tensor.shape == expected else {
        throw wrong(tensor, "has the shape \(tensor.shape); the model asks for \(expected)")
      }
    } else if key.matrix.modules.count > 1 {
      throw wrong(tensor, "belongs to a fused matrix (\(key.matrix.name)); name the model, which says where to cut it")
    }
    let known = isB ? b[key] : a[key]
    guard known == nil else { throw wrong(tensor, "stands for the same matrix as \(quoted(known?.name ?? ""))") }
    if isB { b[key] = tensor } else { a[key] = tensor }
  }

  private mutating func add(magnitude tensor: StoredTensor, _ key: Key) throws(ModelFileError) {
    guard tensor.shape.count == 1 else { throw wrong(tensor, "has the shape \(tensor.shape); a vector is needed") }
    if let model {
      let outputs = key.matrix.modules.reduce(0) { $0 + model.size(of: $1).outputs }
      guard tensor.shape == [outputs], key.layer < model.layerCount else {
        throw wrong(tensor, "has the shape \(tensor.shape) in layer \(key.layer); the model asks for [\(outputs)]")
      }
    }
    if let known = magnitudes[key] { throw wrong(tensor, "stands for the same vector as \(quoted(known.name))") }
    magnitudes[key] = tensor
  }

  /// The pairs in order, fused ones cut; one half without the other is an error, and so is none at all.
  func pairs() throws(ModelFileError) -> [AdapterFile.Pair] {
    var pairs: [AdapterFile.Pair] = []
    for key in Set(a.keys).union(b.keys).union(magnitudes.keys).sorted() {
      guard let a = a[key] else { throw ModelFileError(path, "lora_A of \(key.name) is missing") }
      guard let b = b[key] else { throw ModelFileError(path, "lora_B of \(key.name) is missing") }
      let (_, scale) = configuration.shape(of: key.matrix.path(layer: key.layer))
      var start = 0
      for module in key.matrix.modules {
        let outputs = key.matrix.modules.count == 1 ? b.rowCount : model?.size(of: module).outputs ?? 0
        func name(isB: Bool) -> String { AdapterFile.tensorName(layer: key.layer, module: module, isB: isB) }
        guard let rows = b.slice(start..<start + outputs, name: name(isB: true)),
          let shared = a.slice(0..<a.rowCount, name: name(isB: false))
        else { throw wrong(b, "cannot be cut into its parts") }
        let magnitude = try magnitudes[key].map { (whole) throws(ModelFileError) in
          let name = AdapterFile.magnitudeName(layer: key.layer, module: module)
          guard let part = whole.slice(start..<start + outputs, name: name) else {
            throw wrong(whole, "has no magnitudes for the rows \(start..<start + outputs)")
          }
          return part
        }
        if let other = pairs.first(where: { $0.layer == key.layer && $0.projection == module.rawValue }) {
          throw wrong(b, "stands for the same matrix as \(quoted(other.b.name)), fused with others and by itself")
        }
        pairs.append(
          .init(
            layer: key.layer, projection: module.rawValue, a: shared, b: rows, scale: scale, magnitude: magnitude))
        start += outputs
      }
    }
    if pairs.isEmpty { throw ModelFileError(path, "the adapter has no tensors") }
    return pairs.enumerated().sorted { ($0.element.layer, $0.element.place) < ($1.element.layer, $1.element.place) }
      .map(\.element)
  }

  /// Every projection that the configuration lists must have its pairs, in every layer that has any.
  func requireListed() throws(ModelFileError) {
    let keys = Set(a.keys).union(b.keys)
    if keys.isEmpty { return }
    let layers =
      configuration.layers ?? model.map { Array(0..<$0.layerCount) } ?? Set(keys.map(\.layer)).sorted()
    for name in configuration.targetModules {
      guard let index = Matrix.all.firstIndex(where: { $0.name == name }) else { continue }
      for layer in layers where !keys.contains(Key(layer: layer, index: index)) {
        throw ModelFileError(path, "`target_modules` lists \(name), but layer \(layer) has no tensors for it")
      }
    }
  }

  /// Layer, matrix and half that a name stands for.
  private func place(_ name: String) throws(ModelFileError) -> (Key, Half) {
    func wrong(_ message: String) -> ModelFileError { ModelFileError(path, "tensor \(quoted(name)) \(message)") }
    guard name.hasPrefix(AdapterFile.prefix) else {
      throw wrong("is none of a PEFT adapter: its name must start with \"\(AdapterFile.prefix)\"")
    }
    var parts = name.dropFirst(AdapterFile.prefix.count).split(separator: ".", omittingEmptySubsequences: false)
    if parts.suffix(2) == ["base_layer", "weight"] {
      throw wrong(
        "is a layer saved whole, as PEFT does beside adapters of embeddings and heads, which cannot be loaded")
    }
    // "weight", and before it the adapter's name where a state dictionary was saved as it was.
    // Magnitudes are a parameter of their own, or the weight of a module, as PEFT's versions have it.
    let ends = parts.last == "weight"
    if ends { parts.removeLast() }
    if parts.last == "default" { parts.removeLast() }
    let half: Half
    switch parts.popLast() {
    case "lora_A" where ends: half = .a
    case "lora_B" where ends: half = .b
    case "lora_magnitude_vector": half = .magnitude
    default:
      throw wrong("is none of a LoRA adapter: expected lora_A.weight or lora_B.weight at its end")
    }
    guard parts.count == 5, parts[0] == "model", parts[1] == "layers", let layer = Int(parts[2]), layer >= 0,
      String(layer) == parts[2],
      let index = Matrix.all.firstIndex(where: { $0.parent == parts[3] && $0.name == parts[4] })
    else {
      let known = Matrix.all.map(\.name).joined(separator: ", ")
      throw wrong("adapts \(quoted(parts.joined(separator: "."))); only \(known) of a layer can have an adapter")
    }
    return (Key(layer: layer, index: index), half)
  }

  private func wrong(_ tensor: StoredTensor, _ message: String) -> ModelFileError {
    ModelFileError(path, "tensor \(quoted(tensor.name)) \(message)")
  }
}

extension AdapterFile.Pair {
  /// Place of its projection in a block.
  fileprivate var place: Int { TargetModule.allCases.firstIndex { $0.rawValue == projection } ?? 0 }
}
