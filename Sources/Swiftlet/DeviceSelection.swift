import CPUDevice
import CUDADevice
import ModelFiles
import Models
import Tensors
import Training

/// Which device a run computes on.
public enum DeviceSelection {
  /// The device that `choice` names; `auto` is a GPU where one can be used, else the CPU.
  /// - Parameters:
  ///   - isDeterministic: the same run gives the same bits on a GPU too, at some speed.
  ///   - note: receives one line where a GPU is there and cannot be used.
  public static func device(
    _ choice: TrainingConfiguration.DeviceChoice, compute: TrainingConfiguration.Compute = .auto, threads: Int? = nil,
    isDeterministic: Bool = false, note: (String) -> Void = { _ in }
  ) throws -> any Device {
    if let threads { CPUDevice.useThreads(threads) }
    switch choice {
    case .cuda:
      guard compute != .fp32 else {
        throw DeviceError("the GPU computes in bf16; take --compute auto or bf16, or --device cpu")
      }
      return try CUDADevice(isDeterministic: isDeterministic)
    case .auto where compute != .fp32 && CUDALibraries.found.problem == nil:
      do { return try CUDADevice(isDeterministic: isDeterministic) } catch {
        note("\(error); computing on the CPU")
      }
    case .auto, .cpu: break
    }
    let operands: CPUDevice.Compute =
      switch compute {
      case .auto: .automatic
      case .bf16: .bfloat16
      case .fp32: .float32
      }
    return CPUDevice(compute: operands)
  }

  /// How a model's matrices are kept on `device`, of whose memory `memory` bytes may be taken (nil: what is free).
  ///
  /// What is quantized is dequantized once where that takes at most half of the memory: a step is then a few per cent faster.
  ///
  /// What `checkpoint` stores in NF4 stays so, and then only that.
  package static func storage(
    _ quantization: TrainingConfiguration.Quantization, of configuration: ModelConfiguration,
    storedIn checkpoint: Checkpoint? = nil, keeping kept: Set<String> = [], on device: any Device, memory: Int? = nil
  ) -> WeightStorage {
    let others = kept.isEmpty ? checkpoint?.modulesBesideNF4 : kept
    guard quantization != .none || others != nil else { return .operands }
    guard let free = device.memory?.free else { return .nf4(resident: false, except: others ?? []) }
    let bytes = configuration.projectionParameterCount * device.computeType.byteCount
    return .nf4(resident: bytes <= min(free, memory ?? free) / 2, except: others ?? [])
  }
}

extension ModelConfiguration {
  /// Weights of all layers' projections.
  var projectionParameterCount: Int {
    layerCount * TargetModule.allCases.reduce(0) { $0 + size(of: $1).outputs * size(of: $1).inputs }
  }
}
