import CPUDevice
import ModelFiles
import Models
import Tensors

/// Bytes of host memory that calibration and rounding take beside the loaded model.
public struct CalibrationMemory: Sendable, Equatable {
  /// The matrices a second time, as the backward pass on the processor reads them.
  public var backwardMatrices = 0
  /// Activations and gradients of one batch, where they are in host memory.
  public var activations = 0
  /// What one layer's error, or its rounding, needs while it is worked on.
  public var oneLayer: Int
  /// Codes that are kept until they are written.
  public var codes: Int
  /// The correlations of the inputs of one block; 0 where they are not wanted.
  public let correlationsOfBlock: Int
  let blocks: Int

  /// What a model of this shape takes.
  init(_ model: ModelConfiguration, _ rounding: Rounding, operandByteCount: Int) {
    let sizes = TargetModule.allCases.map { model.size(of: $0) }
    let weights = sizes.map { $0.outputs * $0.inputs }
    blocks = model.layerCount
    // x · Eᵀ of a batch, in fp32, and E beside its codes.
    let tokens = Calibrator.windowsAtOnce * Calibrator.window
    oneLayer =
      zip(sizes, weights).map { $1 * (operandByteCount + 1) + tokens * ($0.outputs + $0.inputs) * 4 }.max() ?? 0
    codes = rounding == .nearest ? 0 : blocks * weights.reduce(0, +) * 33 / 64
    let squares = TargetModule.allCases.filter { Calibration.firstReader($0) == $0 }.map {
      model.size(of: $0).inputs * model.size(of: $0).inputs
    }
    correlationsOfBlock = rounding == .compensated ? 4 * squares.reduce(0, +) : 0
    if rounding == .compensated {
      let widest = TargetModule.allCases.map { model.size(of: $0).inputs }.max() ?? 0
      oneLayer = max(oneLayer, Compensation.byteCount(inputs: widest, threads: CPUDevice.threadCount))
    }
  }

  /// Bytes when the correlations of so many blocks are collected at once.
  public func byteCount(blocksAtOnce: Int) -> Int {
    backwardMatrices + activations + oneLayer + codes + blocksAtOnce * correlationsOfBlock
  }

  /// Ranges of blocks, as few as fit, whose correlations are collected by one reading of the text each; nil where `memory`
  /// does not hold those of a single block.
  /// - Parameter device: bytes for them where they are summed up, when that is not the host.
  public func passes(within memory: Int, device: Int? = nil) -> [Range<Int>]? {
    let needed = byteCount(blocksAtOnce: 0)
    guard memory >= byteCount(blocksAtOnce: correlationsOfBlock == 0 ? 0 : 1) else { return nil }
    guard correlationsOfBlock > 0 else { return [] }
    let atOnce = min(blocks, (memory - needed) / correlationsOfBlock, device.map { $0 / correlationsOfBlock } ?? .max)
    guard atOnce > 0 else { return nil }
    let count = (blocks + atOnce - 1) / atOnce
    // Passes of one length.
    return (0..<count).map { blocks * $0 / count..<blocks * ($0 + 1) / count }
  }
}

extension Calibrator {
  /// Bytes for correlations where a device of its own sums them up; nil where the host does.
  public var deviceMemory: Int? {
    // Half of what is free is for the activations, logits and one layer's error.
    model.device is any CalibratingDevice ? model.device.memory.map { $0.free / 2 } : nil
  }

  /// What calibration and rounding will take beside the model.
  public func memory(for rounding: Rounding) throws -> CalibrationMemory {
    var memory = CalibrationMemory(
      model.configuration, rounding, operandByteCount: model.device.computeType.byteCount)
    if model.device is CPUDevice {
      memory.backwardMatrices = model.matrixByteCount
      memory.activations = try activationByteCount()
    }
    return memory
  }
}
