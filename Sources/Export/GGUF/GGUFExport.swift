import Doctor
import JSONValues
import ModelFiles
import Tokenization

/// Writes a model, with adapters added, as one GGUF for llama.cpp and what builds on it.
///
/// ```swift
/// let export = try GGUFExport(of: "phi-4", adapters: [adapter], type: .q4_k_m)
/// try export.write(to: "phi-4.gguf")
/// ```
///
/// The weights stream through: memory stays below a few hundred megabytes whatever the model's size.
public struct GGUFExport: Sendable {
  /// What was written.
  public struct Result: Sendable {
    /// The number of tensors.
    public let tensorCount: Int
    /// Bytes of all tensors.
    public let byteCount: Int
    /// How many tensors have each format, by the formats' names.
    public let formats: [(name: String, count: Int)]
    /// The tensors whose rows are no whole blocks of what they should become, and became something larger.
    public let fallbackCount: Int
  }

  /// `general.architecture`.
  public let architecture: String
  /// What llama.cpp will do otherwise, each one line.
  public let remarks: [String]
  /// The tokenizer as the file has it.
  public let tokenizer: Tokenizer
  /// Whether programs put BOS before a text by themselves.
  let addsBOS: Bool
  /// What the model's card and licence say.
  let card: ModelCard
  /// The model's own tensors under llama.cpp's names, and their bytes.
  package private(set) var contents: [(tensor: MergedTensor, name: String, format: StorageFormat, byteCount: Int)] = []
  private let metadata: [(key: String, value: GGUFValue)]
  private let tensors: [GGUFTensor]
  private let fallbackCount: Int

  /// Bytes of all tensors.
  public var byteCount: Int { tensors.reduce(0) { $0 + $1.byteCount } }

  /// Reads a model and checks all that can be known before a byte is written: that llama.cpp has the architecture and the
  /// tokenizer, that every tensor is there and has its shape.
  ///
  /// Special tokens and chat template are written as the doctor repairs them.
  ///
  /// - Parameters:
  ///   - path: A Hugging Face folder or a `.gguf` file.
  ///   - adapters: What is added to the weights.
  ///   - formats: Tensors, by llama.cpp's names, that are stored otherwise than `type` says; where the rows are no whole
  ///     blocks of such a format, it is an error.
  public init(
    of path: String, adapters: [AdapterFile] = [], type: GGUFType, formats: [String: StorageFormat] = [:]
  ) throws {
    let checkpoint = try Checkpoint.open(path: path)
    let model = checkpoint.configuration
    let description = try GGUFDescription(model, path: path)
    architecture = description.architecture
    let merged = try MergedTensors(
      checkpoint, adapters: adapters, layout: description.fusesProjections ? .phi3 : .llama)
    let sharesValues = architecture == "llama" && model.layerCount == 80 && model.headCount != model.keyValueHeadCount
    var tensors: [GGUFTensor] = []
    var fallbackCount = 0
    var unused = Set(formats.keys)
    var unknown: [String] = []
    for tensor in merged.tensors {
      guard let name = description.tensorName(tensor.name) else {
        unknown.append(tensor.name)
        continue
      }
      unused.remove(name)
      let usual = type.format(
        of: name, shape: tensor.shape, layerCount: model.layerCount, isTied: model.tiesEmbeddings,
        sharesValues: sharesValues)
      if formats[name] == nil, usual != .float32, GGUFType.isFallback(usual, type) { fallbackCount += 1 }
      let format = formats[name] ?? usual
      let stored = try GGUFTensor(
        tensor, name: name, format: format, pairing: description.pairing(tensor.name), checkpoint: checkpoint)
      tensors.append(stored)
      contents.append((tensor, name, format, stored.byteCount))
    }
    if let name = unused.sorted().first {
      throw ModelFileError(path, "the model has no tensor '\(name)', for which a format is given")
    }
    for (name, values) in description.tables { tensors.append(GGUFTensor(table: values, name: name)) }
    self.tensors = tensors
    self.fallbackCount = fallbackCount
    var remarks = description.remarks
    if let name = unknown.first {
      remarks.append("llama.cpp has no place for \(unknown.count) tensors, which are left out: \(name)")
    }

    let tokens = try ExportedTokenizer(of: checkpoint)
    card = ModelCard(of: checkpoint)
    tokenizer = tokens.tokenizer
    addsBOS = tokens.addsBOS
    self.remarks = remarks + tokens.remarks
    let quantization: [(key: String, value: GGUFValue)] = [
      ("general.file_type", .uint32(type.fileType)), ("general.quantization_version", .uint32(2)),
    ]
    let replaced = Set(
      quantization.map(\.key) + ["general.alignment", "split.no", "split.count", "split.tensors.count"])
    if case .gguf = checkpoint.tokenizerSource {
      // A file says more than is known here; all of it stays.
      metadata = tokens.entries.filter { !replaced.contains($0.key) } + quantization
    } else {
      let name = card.name(for: tokens)
      var general: [(key: String, value: GGUFValue)] = [
        ("general.architecture", .string(architecture)), ("general.type", .string("model")),
        ("general.name", .string(name)),
      ]
      if let licence = card.licence { general.append(("general.license", .string(licence))) }
      metadata = general + quantization + description.entries + tokens.entries
    }
  }

  /// Writes the file, which appears whole or not at all.
  /// - Parameter onProgress: receives the bytes of weights written so far; what it throws ends the export.
  @discardableResult
  public func write(to output: String, onProgress: (_ written: Int) throws -> Void = { _ in }) throws -> Result {
    let writer = try GGUFWriter(path: output, metadata: metadata, tensors: tensors.map(\.entry))
    try tensors.forEachCounted(onProgress) { try $0.write(to: writer, onPiece: $1) }
    try writer.finish()
    let formats = Dictionary(grouping: tensors, by: { $0.entry.format.name }).mapValues(\.count)
    return Result(
      tensorCount: tensors.count, byteCount: byteCount,
      formats: formats.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { ($0.key, $0.value) },
      fallbackCount: fallbackCount)
  }
}

extension GGUFType {
  /// Whether a tensor of this format stands for another whose blocks its rows are not made of.
  static func isFallback(_ format: StorageFormat, _ type: GGUFType) -> Bool {
    switch type {
    case .f32, .f16, .bf16: false
    case .q8_0: format != .q8_0
    case .q4_0: ![.q4_0, .q6_K].contains(format)
    case .q6_k, .q5_k_m, .q4_k_m: format.block.length != 256
    }
  }
}
