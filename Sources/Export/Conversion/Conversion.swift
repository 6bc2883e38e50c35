import Doctor
import JSONValues
import ModelFiles
import Tokenization

/// Writes a model as a Hugging Face folder: in another layout (Phi-3's matrices apart, as a Llama has them, or back), of
/// another type, with adapters added.
///
/// ```swift
/// try Conversion(of: "phi-4", to: .llama).write(to: "phi-4-llama")
/// try Conversion(of: "phi-4", weights: .sixteenBits, adding: ["run"]).write(to: "phi-4-tuned")
/// ```
///
/// The weights stream through: memory stays far below 2 GiB whatever the checkpoint's size. Weights that keep their type
/// and have no adapter keep their bytes. Adapters are added in fp32, and the sum is rounded once. Tokenizer, ids and chat
/// template come along, repaired where they have to be.
public struct Conversion: Sendable {
  /// How the projections of a block are stored.
  public enum Layout: String, Sendable, CaseIterable {
    /// Each by itself.
    case llama
    /// Queries, keys and values in one matrix, gate and up in another.
    case phi3
  }

  /// What weights are stored as.
  public enum Weights: Sendable, Equatable {
    /// As they are; those of a quantized GGUF become bf16.
    case asStored
    /// In 16 bits: f16 stays, everything else becomes bf16.
    case sixteenBits
    /// In this type.
    case type(ElementType)
  }

  /// A type that weights are converted to.
  public enum ElementType: String, Sendable, CaseIterable {
    case bf16, f16, f32

    var format: StorageFormat {
      switch self {
      case .bf16: .bfloat16
      case .f16: .float16
      case .f32: .float32
      }
    }
  }

  /// What was written.
  public struct Result: Sendable {
    /// The class that transformers loads the folder as.
    public let architecture: String
    /// The number of tensors.
    public let tensorCount: Int
    /// Bytes of all tensors.
    public let byteCount: Int
    /// The files that hold them.
    public let fileNames: [String]
  }

  /// The class that transformers will load the folder as.
  public let architecture: String
  /// Bytes of all tensors.
  public let byteCount: Int
  /// What the tokenizer's files, ids and template are, and what repairs them.
  public let examination: Examination
  private let checkpoint: Checkpoint
  private let type: StorageFormat?
  private let tensors: [TensorPlan]

  /// Reads a model and checks all that can be known before a byte is written: that the layout can express it, that every
  /// tensor is there and has its shape, that the adapters fit.
  ///
  /// - Parameters:
  ///   - path: A Hugging Face folder or a `.gguf` file.
  ///   - layout: How to store projections; `nil` as the model has them.
  ///   - adapters: Folders of adapters in PEFT's layout, or of runs.
  public init(
    of path: String, to layout: Layout? = nil, weights: Weights = .asStored, adding adapters: [String] = []
  ) throws {
    let checkpoint = try Checkpoint.open(path: path)
    self.checkpoint = checkpoint
    let layout = layout ?? (checkpoint.configuration.architecture == "Phi3ForCausalLM" ? .phi3 : .llama)
    architecture = try Self.architecture(of: checkpoint, in: layout)
    let format = try Self.format(weights, checkpoint)
    type = format
    let files = try adapters.map {
      try AdapterFile.load(folder: AdapterExport.adapterFolder(in: $0), for: checkpoint.configuration)
    }
    tensors = try TensorPlan.all(of: checkpoint, adding: files, in: layout, as: format)
    byteCount = tensors.reduce(0) { $0 + $1.byteCount }
    examination = try Examination(of: path, depth: .tokens)
  }

  /// What is repaired on the way, each one line.
  public var repairs: [String] { examination.repairs }

  /// Writes the folder `output`, which must not be there or be empty; it appears whole or not at all.
  /// - Parameter onProgress: receives the bytes of weights written so far; what it throws ends the conversion.
  @discardableResult
  public func write(to output: String, onProgress: (_ written: Int) throws -> Void = { _ in }) throws -> Result {
    let folder = ModelFolder(of: checkpoint, examination, architecture: architecture, type: type)
    let files = try folder.write(to: output, tensors: tensors.map(\.entry)) { writer in
      try tensors.forEachCounted(onProgress) { try $0.write(to: writer, onPiece: $1) }
    }
    return Result(architecture: architecture, tensorCount: tensors.count, byteCount: byteCount, fileNames: files)
  }

  /// The class that expresses a model in a layout.
  package static func architecture(of checkpoint: Checkpoint, in layout: Layout) throws(ModelFileError) -> String {
    var model = checkpoint.configuration
    let path = checkpoint.path
    switch layout {
    case .phi3:
      if let reason = model.reasonAgainstPhi3 {
        throw ModelFileError(path, "Phi3ForCausalLM cannot express this model: its \(reason)")
      }
      return "Phi3ForCausalLM"
    case .llama:
      guard ["Phi3ForCausalLM", "LlamaForCausalLM"].contains(model.architecture) else { return model.architecture }
      // A GGUF calls Mistral's models Llamas; what tells them apart is the window.
      if model.architecture == "LlamaForCausalLM", model.slidingWindow != nil, !model.attentionBias, !model.mlpBias {
        model.slidingWindow = nil
        if model.reasonAgainstLlama == nil { return "MistralForCausalLM" }
      }
      if case .folder = checkpoint.tokenizerSource, model.architecture == "LlamaForCausalLM" {
        return model.architecture
      }
      if let reason = model.reasonAgainstLlama {
        let other = model.reasonAgainstPhi3 == nil ? "; --to phi3 can" : ""
        throw ModelFileError(path, "LlamaForCausalLM cannot express this model: its \(reason)\(other)")
      }
      return "LlamaForCausalLM"
    }
  }

  /// The type that weights get; `nil`: the one they have.
  package static func format(
    _ weights: Weights, _ checkpoint: Checkpoint
  ) throws(ModelFileError) -> StorageFormat? {
    if case .type(let type) = weights { return type.format }
    let tensor = try checkpoint.tensor(TargetModule.down.path(layer: 0) + ".weight")
    let stored = tensor.nf4?.originalFormat ?? tensor.format
    if weights == .sixteenBits { return stored == .float16 ? .float16 : .bfloat16 }
    guard case .gguf = checkpoint.tokenizerSource else { return nil }
    return [.float32, .float16].contains(stored) ? stored : .bfloat16
  }
}
