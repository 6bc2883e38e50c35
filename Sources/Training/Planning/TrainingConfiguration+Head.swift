import ModelFiles
import Models
import Tensors

extension TrainingConfiguration.Head {
  /// The ways to keep the head of a model, what changes it least first; the others only where nothing fits with those before.
  ///
  /// - Throws: where fewer bits are asked for, and the head shares its matrix with the embedding or has rows of no whole blocks.
  public func storages(for configuration: ModelConfiguration, on device: any Device) throws -> [FrozenStorage] {
    let isPossible = !configuration.tiesEmbeddings && configuration.hiddenSize % 64 == 0
    guard self == .auto || self == .bf16 || isPossible else {
      throw TrainingError(
        configuration.tiesEmbeddings
          ? "--head \(rawValue): the model's head is its embedding, which stays in 16 bits"
          : "--head \(rawValue): the head's rows of \(configuration.hiddenSize) elements are not whole blocks of 64")
    }
    return switch self {
    case .auto: isPossible && device.memory != nil ? [.operands, .tiled(.int8), .tiled(.nf4)] : [.operands]
    case .bf16: [.operands]
    case .int8: [.tiled(.int8)]
    case .nf4: [.tiled(.nf4)]
    }
  }
}

extension FrozenStorage {
  /// What is said of a head that is kept so: "8 bits"; nil in 16 bits.
  public var headBits: String? {
    switch self {
    case .operands: nil
    case .tiled(.int8): "8 bits"
    case .tiled(.nf4), .nf4: "4 bits"
    }
  }
}
