// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Allowlist management
/// @notice The part of an application's authorisation contract that deployment tools rely on. Its ERC-165 id is
/// 0x8fd37527, so a function added here breaks their detection.
interface IAppAuthBasicManagement {
    /// @notice A compose file may run from now on.
    /// @param composeHash SHA-256 of the raw compose file.
    event ComposeHashAdded(bytes32 composeHash);

    /// @notice A compose file may no longer run.
    /// @param composeHash SHA-256 of the raw compose file.
    event ComposeHashRemoved(bytes32 composeHash);

    /// @notice A machine may host the application from now on.
    /// @param deviceId The machine's id.
    event DeviceAdded(bytes32 deviceId);

    /// @notice A machine may no longer be relied on to host the application.
    /// @param deviceId The machine's id.
    event DeviceRemoved(bytes32 deviceId);

    /// @notice Allows a compose file.
    /// @param composeHash SHA-256 of the raw compose file; not zero.
    function addComposeHash(bytes32 composeHash) external;

    /// @notice Forbids a compose file until it is added again. Forbidding an unknown one is not an error.
    /// @param composeHash SHA-256 of the raw compose file.
    function removeComposeHash(bytes32 composeHash) external;

    /// @notice Allows a machine.
    /// @param deviceId The machine's id; not zero.
    function addDevice(bytes32 deviceId) external;

    /// @notice Forbids a machine until it is added again. Has no effect on boots while any device is allowed.
    /// @param deviceId The machine's id.
    function removeDevice(bytes32 deviceId) external;
}
