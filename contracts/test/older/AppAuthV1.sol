// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";

/// @dev The storage of dstack's application contract before the platform's standing could be demanded: ownership in one
/// step, and the gap one slot earlier.
contract AppAuthV1 is OwnableUpgradeable, UUPSUpgradeable {
    mapping(bytes32 composeHash => bool allowed) public allowedComposeHashes;
    bool private _upgradesDisabled;
    bool public allowAnyDevice;
    mapping(bytes32 deviceId => bool allowed) public allowedDeviceIds;
    uint256[50] private __gap;

    function initialize(address owner, bool disableUpgrades, bool anyDevice, bytes32 deviceId, bytes32 composeHash)
        external
        initializer
    {
        __Ownable_init(owner);
        _upgradesDisabled = disableUpgrades;
        allowAnyDevice = anyDevice;
        allowedDeviceIds[deviceId] = true;
        allowedComposeHashes[composeHash] = true;
    }

    function _authorizeUpgrade(address) internal view override onlyOwner {
        require(!_upgradesDisabled, "Upgrades are permanently disabled");
    }
}
