import CPUDevice
import CUDADevice
import Tensors
import Training

/// Which device a run computes on.
public enum DeviceSelection {
  /// The device that `choice` names; `auto` is a GPU where one can be used, else the CPU.
  /// - Parameter note: receives one line where a GPU is there and cannot be used.
  public static func device(
    _ choice: TrainingConfiguration.DeviceChoice, compute: TrainingConfiguration.Compute = .auto, threads: Int? = nil,
    note: (String) -> Void = { _ in }
  ) throws -> any Device {
    if let threads { CPUDevice.useThreads(threads) }
    switch choice {
    case .cuda:
      guard compute != .fp32 else {
        throw DeviceError("the GPU computes in bf16; take --compute auto or bf16, or --device cpu")
      }
      return try CUDADevice()
    case .auto where compute != .fp32 && CUDALibraries.found.problem == nil:
      do { return try CUDADevice() } catch {
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
}
