// What a Swift program imports: the facade of this room and the types of the rooms below that its declarations name.
@_exported import CPUDevice
@_exported import Doctor
@_exported import JSONValues
@_exported import ModelFiles
@_exported import Models
@_exported import Tensors
@_exported import Tokenization
@_exported import Training
