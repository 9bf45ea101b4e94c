// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {KmsAuth} from "../../src/KmsAuth.sol";

/// @dev The storage of dstack's KMS contract, which knows neither deregistration nor a pause.
contract KmsAuthV1 is OwnableUpgradeable, UUPSUpgradeable {
    KmsAuth.KmsInfo public kmsInfo;
    string public gatewayAppId;
    mapping(address appId => bool registered) public registeredApps;
    mapping(bytes32 mrAggregated => bool allowed) public kmsAllowedAggregatedMrs;
    mapping(bytes32 deviceId => bool allowed) public kmsAllowedDeviceIds;
    mapping(bytes32 osImageHash => bool allowed) public allowedOsImages;
    address public appImplementation;
    uint256[50] private __gap;

    function initialize(address owner, address implementation) external initializer {
        __Ownable_init(owner);
        appImplementation = implementation;
    }

    function fill(KmsAuth.KmsInfo calldata info, string calldata gateway, address appId, bytes32 value) external {
        kmsInfo = info;
        gatewayAppId = gateway;
        registeredApps[appId] = true;
        kmsAllowedAggregatedMrs[value] = true;
        kmsAllowedDeviceIds[value] = true;
        allowedOsImages[value] = true;
    }

    function _authorizeUpgrade(address) internal view override onlyOwner {}
}
